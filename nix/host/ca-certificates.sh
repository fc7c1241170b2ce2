# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# Debian's certificates, those of Mozilla alone, at the places where programs look for them.
bundle=$out/etc/ssl/certs/ca-certificates.crt
mkdir -p "$out/etc/ssl/certs" "$out/etc/pki/tls/certs"
cat /usr/share/ca-certificates/mozilla/*.crt >"$bundle"
ln -s "$bundle" "$out/etc/ssl/certs/ca-bundle.crt"
ln -s "$bundle" "$out/etc/pki/tls/certs/ca-bundle.crt"
