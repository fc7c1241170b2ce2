# A stand-in for nixpkgs where nixpkgs cannot be had: the functions that Kurir's flake uses and no other, on the toolchain and
# the libraries of a Debian host. It has the shapes of the real ones, not their purity: docs/nix.md says what it shows.
# Give it with --override-input nixpkgs, --impure, and the sandbox off: nix/host/nix does.
{
  description = "The part of nixpkgs that Kurir's flake uses, on this host";

  outputs =
    { self }:
    let
      lib = import ./lib.nix;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] (system: import ./packages.nix { inherit lib system; });
    };
}
