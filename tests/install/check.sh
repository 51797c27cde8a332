#!/usr/bin/env bash
# Installs the SDKs into a scratch folder, builds a customer's program against them and runs it;
# then looks at what the libraries export and need.   check.sh BUILD_DIR SOURCE_DIR CXX
set -euo pipefail
build=$1 source=$2 cxx=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for component in umbra-writer umbra-requester umbra-provider; do
  cmake --install "$build" --prefix "$scratch/usr" --component "$component" >"$scratch/install.log"
done
# The example provider as a customer has it: its own files, and nothing else of the source tree.
mkdir -p "$scratch/example/provider-sdk"
cp -r "$source/provider-sdk/examples" "$scratch/example/provider-sdk/"
cmake -S "$source/tests/install/consumer" -B "$scratch/consumer" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$scratch/usr" -DEXAMPLE="$scratch/example" >"$scratch/configure.log"
cmake --build "$scratch/consumer" >"$scratch/build.log" || { cat "$scratch/build.log"; exit 1; }
"$scratch/consumer/consumer"
for sdk in writer requester provider; do "$scratch/consumer/base_$sdk"; done
echo disk >"$scratch/disk"
mkfifo "$scratch/said"
UMBRA_RUN_DIR="$scratch" "$scratch/consumer/file_provider" "$scratch/store" "vm=$scratch/disk" \
  >"$scratch/said" 2>"$scratch/provider.log" &
provider=$!
read -r -t 60 said <"$scratch/said" || true
kill -TERM $provider
wait $provider || { echo "the example provider did not end well"; cat "$scratch/provider.log"; exit 1; }
[ "${said-}" = serving ] || { echo "the example provider does not serve"; exit 1; }
status=0
# What a call of the contract is made for is told in the library, and read in the provider: one
# variable for both.
if ! grep -q 'umbra::current_caller' <<<"$(nm -DC --defined-only "$(find "$scratch/usr" -name libumbra-provider.so.0)")"; then
  echo "libumbra-provider does not export current_caller()"
  status=1
fi
for name in writer requester provider; do
  library=$(find "$scratch/usr" -name "libumbra-$name.so.0")
  [ -n "$library" ] || { echo "libumbra-$name has no SONAME 0"; exit 1; }
  foreign=$(nm -DC --defined-only "$library" | cut -d' ' -f3- |
    grep -vE '^(umbra::|typeinfo (name )?for umbra::|vtable for umbra::)' || true)
  inside=$(nm -DC --defined-only "$library" | grep -E 'umbra::(rpc|documents)::' || true)
  if [ -n "$foreign$inside" ]; then
    echo "libumbra-$name exports what is not its own: $foreign $inside"
    status=1
  fi
  if grep -qE "boost|spdlog|fmt" <<<"$(ldd "$library")"; then
    echo "libumbra-$name needs libraries that it should carry inside"
    status=1
  fi
done
exit $status
