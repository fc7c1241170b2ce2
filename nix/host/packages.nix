# The packages and builders of nixpkgs that the flake uses. What a builder does is in the scripts beside this file.
{ lib, system }:
let
  processor = builtins.head (builtins.match "(.*)-linux" system);

  environment = {
    inherit system;
    PATH = builtins.getEnv "PATH";
    HOME = builtins.getEnv "HOME";
    LC_ALL = "C";
    # As in nixpkgs: 1980, the first year that ZIP knows.
    SOURCE_DATE_EPOCH = "315532800";
  };

  # Runs a script with the host's programs.
  run =
    name: script: attributes:
    derivation (
      environment
      // {
        inherit name;
        builder = "/bin/bash";
        args = [
          "-euo"
          "pipefail"
          script
        ];
      }
      // attributes
    );

  # What only shells and checks ask for can be named here, and not built.
  absent = name: run name (builtins.toFile "absent.sh" "echo ${name} is not in the stand-in >&2; exit 1") { };

  # What a Rust program is linked to, alone: nixpkgs' glibc and libgcc.
  libraries =
    let
      directory = "/usr/lib/${processor}-linux-gnu";
      names = [
        {
          x86_64 = "ld-linux-x86-64.so.2";
          aarch64 = "ld-linux-aarch64.so.1";
        }
        .${processor}
        "libc.so.6"
        "libgcc_s.so.1"
        "libm.so.6"
      ];
      files = map (name: "${directory}/${name}") names;
    in
    run "host-libraries" ./libraries.sh {
      inherit files;
      # Made anew when the host's are others. Those of another processor are only named.
      sums = map (builtins.hashFile "sha256") (builtins.filter builtins.pathExists files);
    };

  # The only one that compiles: a release from nothing, or, with a target directory of the host's in the environment (nix/check),
  # what is not there yet.
  buildRustPackage =
    {
      pname,
      version,
      src,
      cargoLock,
      doCheck ? true,
      nativeBuildInputs ? [ ],
      cargoBuildFlags ? [ ],
      meta ? { },
      ...
    }@arguments:
    run "${pname}-${version}" ./rust.sh (
      {
        inherit pname libraries cargoBuildFlags;
        src = "${src}";
        CARGO_HOME = builtins.getEnv "CARGO_HOME";
        RUSTUP_HOME = builtins.getEnv "RUSTUP_HOME";
        hostTarget = builtins.getEnv "KURIR_HOST_TARGET";
        hostFlags = builtins.getEnv "KURIR_HOST_FLAGS";
      }
      // builtins.intersectAttrs {
        buildPhase = null;
        installPhase = null;
      } arguments
    )
    // {
      inherit pname version meta;
    };

  # One layer a store path, and one with links to the contents; as a `docker save` archive, compressed.
  buildLayeredImage =
    {
      name,
      tag,
      created,
      contents,
      config,
    }:
    let
      last = run "${name}-root" ./root.sh {
        inherit contents;
        config = builtins.toJSON config;
        passAsFile = [ "config" ];
      };
    in
    run "${name}.tar.gz" ./image.sh {
      inherit
        name
        tag
        created
        last
        ;
      exportReferencesGraph = [
        "closure"
        last
      ];
      architecture =
        {
          x86_64 = "amd64";
          aarch64 = "arm64";
        }
        .${processor};
    };
in
{
  inherit lib;
  rustPlatform = { inherit buildRustPackage; };
  dockerTools = {
    inherit buildLayeredImage;
    caCertificates = run "ca-certificates" ./ca-certificates.sh { };
    fakeNss = run "fake-nss" ./fake-nss.sh { };
  };
  mkShell = { packages, inputsFrom }: absent "shell";
}
// lib.genAttrs [
  "bubblewrap"
  "cargo-deny"
  "clippy"
  "curl"
  "iproute2"
  "iptables"
  "jq"
  "just"
  "nixfmt-tree"
  "openssl"
  "patchelf"
  "postgresql"
  "python3"
  "redis"
  "rustfmt"
  "util-linux"
] absent
