# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# An archive as `docker save` writes it. last: root of the last layer and configuration; closure: all that these refer to.

# layer ARGUMENT…: packs what tar is told to, adds it to the image.
layer() {
  local sum
  tar --create --file=layer.tar --sort=name --format=gnu --mtime=@1 --owner=root:0 --group=root:0 "$@"
  sum=$(sha256sum layer.tar | cut -d' ' -f1)
  mkdir "image/$sum"
  mv layer.tar "image/$sum/"
  layers+=("\"$sum/layer.tar\"")
  sums+=("\"sha256:$sum\"")
  history+=("{\"created\":\"$created\"}")
}

# A list for JSON.
joined() {
  local IFS=,
  echo "[$*]"
}

layers=() sums=() history=()
mkdir -p image store/nix/store
grep "^$NIX_STORE/" closure | sort -u >paths
while read -r path; do
  [[ "$path" != "$last" ]] || continue
  layer -C "$PWD/store" --no-recursion nix nix/store -C / --recursion "${path#/}"
done <paths
layer -C "$last/root" .

printf '{"created":"%s","architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":%s},"history":%s}' \
  "$created" "$architecture" "$(<"$last/config.json")" "$(joined "${sums[@]}")" "$(joined "${history[@]}")" >config.json
config=$(sha256sum config.json | cut -d' ' -f1).json
mv config.json "image/$config"
printf '[{"Config":"%s","RepoTags":["%s:%s"],"Layers":%s}]' "$config" "$name" "$tag" "$(joined "${layers[@]}")" >image/manifest.json

tar --create --sort=name --format=gnu --mtime=@1 --owner=root:0 --group=root:0 -C image . | gzip -n >"$out"
