# What ./test checks, as far as a sandbox can: docs/nix.md says what it cannot.
{ pkgs, workspace }:
let
  inherit (pkgs) rustPlatform;

  # One command on the sources, with the crates of Cargo.lock; nothing is installed.
  check =
    name: tools: command:
    rustPlatform.buildRustPackage {
      pname = "kurir-${name}";
      inherit (workspace) version cargoLock;
      src = workspace.checked;
      nativeBuildInputs = tools;
      buildPhase = ''
        runHook preBuild
        ${command}
        runHook postBuild
      '';
      doCheck = false;
      installPhase = ''
        touch $out
      '';
    };
in
{
  # The images are made of it.
  inherit (workspace) kurir;

  format = check "format" [ pkgs.rustfmt ] "cargo fmt --all --check";

  dependencies =
    check "dependencies" [ pkgs.cargo-deny ]
      "cargo deny --offline check bans licenses sources";

  lints =
    check "lints" [ pkgs.clippy ]
      "cargo clippy --offline --locked --workspace --all-targets --test e2e -- -D warnings";

  tests = check "tests" workspace.testTools "cargo test --offline --locked --workspace";

  # The same selection as the tests': the scenarios run target/debug/kurir, which it builds.
  scenarios = check "scenarios" workspace.testTools ''
    cargo test --offline --locked --workspace --no-run
    cargo test --offline --locked --workspace --test e2e -- --test-threads=1
  '';
}
