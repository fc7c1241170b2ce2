# The cargo workspace: what it is built from, what its tests need, and `kurir`.
{ pkgs }:
let
  inherit (pkgs) lib;
  inherit ((lib.importTOML ../Cargo.toml).workspace) package;

  sources =
    files:
    lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions files;
    };

  # A change of anything else builds nothing anew. Of e2e cargo only wants to see that it is there.
  compiled = [
    ../Cargo.lock
    ../Cargo.toml
    ../crates
    ../e2e/Cargo.toml
    ../e2e/src/lib.rs
    ../e2e/tests/e2e/main.rs
    ../proto
    ../rust-toolchain.toml
    ../services
  ];
in
rec {
  inherit (package) version;

  # Every crate is fetched by its checksum in the lock file; there is no hash to keep up to date.
  cargoLock.lockFile = ../Cargo.lock;

  # As `compiled`, with what only tests and lints read.
  checked = sources (
    compiled
    ++ [
      ../clippy.toml
      ../deny.toml
      ../docs/metrics.md
      ../e2e
      ../rustfmt.toml
    ]
  );

  # What the tests start: real servers, and setpriv, which ends them with the test. ip and iptables are for packets that
  # are dropped, which only root may have done.
  testTools = [
    pkgs.iproute2
    pkgs.iptables
    pkgs.openssl
    pkgs.postgresql
    pkgs.redis
    pkgs.util-linux
  ];

  kurir = pkgs.rustPlatform.buildRustPackage {
    pname = "kurir";
    inherit version cargoLock;
    src = sources compiled;
    # The features are those that the whole workspace asks for, as in every other build of it.
    cargoBuildFlags = [
      "--workspace"
      "--bin"
      "kurir"
    ];
    # The checks do it (checks.nix), without compiling everything as a release.
    doCheck = false;
    meta = {
      description = "Chat middleware, XMPP's meaning in JSON over TCP";
      license = lib.licenses.asl20;
      mainProgram = "kurir";
      platforms = lib.platforms.linux;
    };
  };
}
