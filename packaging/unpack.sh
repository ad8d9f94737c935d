#!/bin/sh
# unpack.sh SUITE DIRECTORY PACKAGE...
# What Debian's packages of another release have below /usr, once into DIRECTORY/usr: for programs
# that this release lacks. Nothing is installed and no service is started; apt's and dpkg's own
# files stay as they are. Which libraries these programs need is the caller's business.
set -eu

suite=$1
mkdir -p "$2"
d=$(cd "$2" && pwd)
shift 2
[ ! -d "$d/usr" ] || exit 0

work=$d/apt
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/preferences" "$work/deb" \
         "$work/new"
# From the mirror that this machine uses, signed by Debian.
# shellcheck disable=SC2016
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' |
      head -n1)
key=$(dpkg -L debian-archive-keyring | grep '/debian-archive-keyring.gpg$')
echo "deb [signed-by=$key] $uri $suite main" >"$work/one.list"
get() {
    apt-get -qq -o Dir::Etc::SourceList="$work/one.list" -o Dir::Etc::SourceParts=- \
            -o Dir::Etc::PreferencesParts="$work/preferences" -o Dir::State::Lists="$work/lists" \
            -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}
get update
cd "$work/deb"
get download "$@"
for one in *.deb; do
    dpkg --fsys-tarfile "$one" | tar -x -C "$work/new" ./usr
done
mv "$work/new/usr" "$d/usr" # whole, or not at all
