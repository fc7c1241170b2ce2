# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# Compiles with the host's toolchain, from the crates that its cargo has fetched.
# src: the sources; buildPhase, installPhase: instead of the usual ones; libraries: what programs are to be linked to;
# hostTarget: a target directory and profile (…/target/debug) whose contents are taken; hostFlags: for cargo build.

# An empty one would be taken for a relative path.
[[ -n "$CARGO_HOME" ]] || unset CARGO_HOME
[[ -n "$RUSTUP_HOME" ]] || unset RUSTUP_HOME
export CARGO_TARGET_DIR="$PWD/target" CARGO_INCREMENTAL=0
profile=release

# Hooks are nixpkgs'.
runHook() { :; }

build() {
  # shellcheck disable=SC2086 # lists of words
  cargo build --frozen --profile "${profile/debug/dev}" $cargoBuildFlags $hostFlags
}

installs() {
  mkdir -p "$out/bin"
  find "target/$profile" -maxdepth 1 -type f -executable -exec cp -t "$out/bin" {} +
}

# Without debug information, and linked to what is in the store.
fixup() {
  local program
  for program in "$out"/bin/*; do
    strip --strip-debug "$program"
    patchelf --set-interpreter "$(echo "$libraries"/lib/ld-linux-*)" --set-rpath "$libraries/lib" "$program"
  done
}

# Cargo goes by times, and files of the store are older than anything: it compiles what of the sources is not there, and takes
# the rest as it finds it. Whoever gives a target directory has seen to it that it is up to date.
borrow() {
  # Else libraries in C would be compiled anew, and all that is on top of them: they were without it.
  unset SOURCE_DATE_EPOCH
  profile=${hostTarget##*/}
  mkdir -p "target/$profile/deps"
  cp -a --reflink=auto "$hostTarget"/{.fingerprint,build} "target/$profile/"
  find "$hostTarget/deps" \( -name 'lib*' -o -name '*.d' -o -name "$pname-*" \) -exec cp -a --reflink=auto -t "target/$profile/deps" {} +
}

# Where panics happen is in the program: without the directories of this machine. What is borrowed was compiled with them, and
# with other flags cargo would compile all of it again.
rename() {
  export RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/build"
}

if [[ -n "$hostTarget" ]]; then borrow; else rename; fi
cp -r --preserve=timestamps "$src" source
chmod -R u+w source
(cd source && eval "${buildPhase:-build}")
eval "${installPhase:-installs}"
[[ ! -d "$out/bin" ]] || fixup
