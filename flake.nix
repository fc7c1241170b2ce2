# Images, packages, checks and a shell for developers: docs/nix.md.
{
  description = "Kurir, chat middleware";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # for: what one system is given, of its packages and of the workspace built with them.
      forEach =
        for:
        lib.genAttrs systems (
          system:
          let
            pkgs = nixpkgs.legacyPackages.${system};
          in
          for pkgs (import ./nix/workspace.nix { inherit pkgs; })
        );
      # No commit names a tree with changes of its own.
      revision = self.rev or "unknown";
    in
    {
      packages = forEach (
        pkgs: workspace:
        {
          inherit (workspace) kurir;
          default = workspace.kurir;
        }
        // import ./nix/image.nix { inherit pkgs workspace revision; }
      );

      checks = forEach (pkgs: workspace: import ./nix/checks.nix { inherit pkgs workspace; });

      apps = forEach (
        _: workspace: {
          default = {
            type = "app";
            program = lib.getExe workspace.kurir;
          };
        }
      );

      # What ./test needs (but a Debian, for its stage of images), and rustc and cargo themselves.
      devShells = forEach (
        pkgs: workspace: {
          default = pkgs.mkShell {
            inputsFrom = [ workspace.kurir ];
            packages = workspace.testTools ++ [
              pkgs.bubblewrap
              pkgs.cargo-deny
              pkgs.clippy
              pkgs.curl
              pkgs.jq
              pkgs.just
              pkgs.patchelf
              pkgs.python3
              pkgs.rustfmt
            ];
          };
        }
      );

      formatter = forEach (pkgs: _: pkgs.nixfmt-tree);
    };
}
