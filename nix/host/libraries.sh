# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# The host's C library and what goes with it. files: their paths.
mkdir -p "$out/lib"
for file in $files; do
  cp "$file" "$out/lib/"
done
