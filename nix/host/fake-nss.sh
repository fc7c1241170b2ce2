# shellcheck shell=bash disable=SC2154 # the variables are the derivation's
# The users root and nobody, and where names are looked up.
mkdir -p "$out/etc" "$out/var/empty"
printf '%s\n' 'root:x:0:0:root user:/var/empty:/bin/sh' 'nobody:x:65534:65534:nobody:/var/empty:/bin/sh' >"$out/etc/passwd"
printf '%s\n' 'root:x:0:' 'nobody:x:65534:' >"$out/etc/group"
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
