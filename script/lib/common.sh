# Shared by the scripts in script/. Sourced, never run. Current directory: the top of the tree.
# shellcheck shell=bash

# Debian 12 package names, by purpose.
packages_build=(build-essential cmake ninja-build ccache pkg-config libboost1.81-dev libspdlog-dev
  libpugixml-dev libexpected-dev libcli11-dev libtomlplusplus-dev liburing-dev libnl-genl-3-dev
  libmount-dev libblkid-dev libgnutls28-dev libsqlite3-dev libnbd-dev libpq-dev catch2)
packages_clang=(clang-14 clang-tidy-14 libclang-rt-14-dev)
packages_format=(clang-format-14)
packages_coverage=(gcovr)
packages_mingw=(g++-mingw-w64-x86-64-posix)
packages_demo=(e2fsprogs util-linux sqlite3)
packages_postgres=(postgresql-15)
packages_kernel=(qemu-system-x86 busybox-static cpio kmod xz-utils dmsetup)
packages_test=(git e2fsprogs util-linux xfsprogs btrfs-progs fio libnbd-bin python3-libnbd gnutls-bin
  nbd-client nbdkit qemu-utils sqlite3 python3 socat procps postgresql)

say() { printf '%s\n' "$*" >&2; }

# install_packages GROUP...: what is missing of the groups, through apt-get. Without root, or on
# another system, names what is missing and goes on if nothing is.
install_packages() {
  local group name missing=()
  for group in "$@"; do
    local -n names=packages_$group
    for name in "${names[@]}"; do
      dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null; then
    say "umbra: these scripts install Debian packages; install the equivalents of: ${missing[*]}"
    return 1
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      say "umbra: packages are missing and installing them needs root. Run: apt-get install ${missing[*]}"
      return 1
    fi
    as_root=(sudo)
  fi
  say "umbra: installing ${missing[*]}"
  apt_install "${missing[@]}"
}

# apt_install PACKAGE...: prints what apt-get says only if it fails. Needs $as_root. A subshell, for its
# trap.
apt_install() (
  log=$(mktemp)
  # Debian makes and starts a cluster when it installs a server. Nobody asked for one.
  no_cluster=/etc/postgresql-common/createcluster.d/umbra-scripts.conf
  trap 'rm -f "$log"; ! [ -e $no_cluster ] || "${as_root[@]}" sh -c \
    "rm $no_cluster; rmdir --ignore-fail-on-non-empty ${no_cluster%/*}"' EXIT
  [[ " $*" != *" postgresql"* ]] || "${as_root[@]}" sh -c \
    "mkdir -p ${no_cluster%/*} && echo 'create_main_cluster = false' >$no_cluster"
  if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
    say "umbra: apt-get failed:"
    tail -n 20 "$log" >&2
    return 1
  fi
)

# One build at a time on a machine: two at once only make both slow.
configure_and_build() {
  local preset=$1
  shift
  # DEPEND: what is not in the cache is not preprocessed twice.
  # SLOPPINESS: as ccache asks for with precompiled headers.
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
  exec 9>"${UMBRA_BUILD_LOCK:-${TMPDIR:-/tmp}/umbra-build.$(id -u).lock}"
  flock 9
  [ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >&2
  cmake --build "build/$preset" ${1:+--target "$@"} >&2
  exec 9>&-
}
