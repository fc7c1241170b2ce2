# The functions of nixpkgs' `lib` that the flake uses, each as the manual describes it.
let
  inherit (builtins)
    attrValues
    listToAttrs
    map
    stringLength
    substring
    ;

  # Whether a path is one of these, is inside one, or leads to one.
  selects =
    paths: path:
    let
      isAt = path: under: path == under || substring 0 (stringLength under + 1) path == under + "/";
    in
    builtins.any (wanted: isAt path (toString wanted) || isAt (toString wanted) path) paths;
in
{
  inherit attrValues;

  genAttrs =
    names: f:
    listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );

  importTOML = path: builtins.fromTOML (builtins.readFile path);

  getExe = package: "${package}/bin/${package.meta.mainProgram}";

  fileset = {
    # A file set is here the list of its paths: the flake unites nothing but paths. One that is not there is refused.
    unions = map (
      path: if builtins.pathExists path then path else throw "lib.fileset.unions: ${toString path} does not exist"
    );
    toSource =
      { root, fileset }:
      {
        outPath = builtins.path {
          path = root;
          name = "source";
          filter = path: _: selects fileset path;
        };
      };
  };

  licenses.asl20.spdxId = "Apache-2.0";

  platforms.linux = [
    "x86_64-linux"
    "aarch64-linux"
  ];
}
