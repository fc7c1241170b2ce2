# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# What an image is beside the store: the root of its last layer, links to the contents, and its configuration.
mkdir -p "$out/root"
for content in $contents; do
  cp -rs --no-preserve=mode "$content"/* "$out/root/"
done
cp "$configPath" "$out/config.json"
