# Sourced by tests/run, bench/run and bench/gpu: what a build needs, found or installed.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
logs=$root/build/logs

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

have_header() {
  [[ -e /usr/include/$1 || -e /usr/local/include/$1 ]]
}

# find_nvcc: prints nvcc's path; fails where there is none.
find_nvcc() {
  command -v nvcc && return
  local directory
  for directory in "${CUDA_PATH:-}" /usr/local/cuda; do
    if [[ -n $directory && -x $directory/bin/nvcc ]]; then
      printf '%s\n' "$directory/bin/nvcc"
      return
    fi
  done
  return 1
}

# find_plotting_python: prints a python3 that has matplotlib; fails where there is none.
find_plotting_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import matplotlib' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
  return 1
}

# missing_packages bench|gpu|tests: prints the Debian packages that have to be installed.
missing_packages() {
  command -v g++ >/dev/null || echo g++
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || command -v make >/dev/null || echo ninja-build
  have_header boost/context/detail/fcontext.hpp || echo libboost-context-dev
  have_header thrust/version.h || echo libthrust-dev
  if [[ $1 == bench && $EUID == 0 ]]; then
    # What the suite "host" compares with. Not needed: without them it leaves their rows out.
    local known library
    known=$(ldconfig -p 2>/dev/null || true)
    for library in mimalloc2.0:mimalloc.so.2 jemalloc2:jemalloc.so.2 \
      tcmalloc-minimal4:tcmalloc_minimal.so.4; do
      [[ $known == *"lib${library#*:}"* ]] || echo "lib${library%:*}"
    done
  fi
  if [[ $1 != bench ]]; then
    have_header gtest/gtest.h || echo libgtest-dev
    have_header nlohmann/json.hpp || echo nlohmann-json3-dev
  fi
  if [[ $1 == tests ]]; then
    command -v clang-format-14 >/dev/null || echo clang-format-14
    have_header relacy/relacy.hpp || echo relacy-dev
    command -v valgrind >/dev/null || echo valgrind
  fi
}

# What else there is to do where packages cannot be had.
instead_of_packages=

# set_up bench|gpu|tests: installs what is missing, or prints the line that does, and stops.
set_up() {
  local missing
  mapfile -t missing < <(missing_packages "$1")
  if ((${#missing[@]})); then
    install_packages "${missing[@]}"
  fi
  local version
  version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9]*\.[0-9]*\).*/\1/p')
  if [[ $(printf '%s\n' 3.25 "$version" | sort -V | head -n 1) != 3.25 ]]; then
    die "CMake 3.25 or newer is needed; found $version."
  fi
}

install_packages() {
  local as_root=()
  if ((EUID != 0)); then
    if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
      as_root=(sudo)
    else
      command -v apt-get >/dev/null || die "Missing, by Debian's names: $*$instead_of_packages"
      die "Some packages are missing. Run this as root, then start again:
  apt-get update && apt-get install --no-install-recommends -y $*$instead_of_packages"
    fi
  fi
  command -v apt-get >/dev/null ||
    die "Missing, by Debian's names: $* (and there is no apt-get)$instead_of_packages"
  echo "installing $*"
  mkdir -p "$logs"
  if ! {
    "${as_root[@]}" apt-get update &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --no-install-recommends -y "$@"
  } >"$logs/apt.log" 2>&1 </dev/null; then
    tail -n 20 "$logs/apt.log" >&2
    die "apt-get failed; the whole log: build/logs/apt.log$instead_of_packages"
  fi
}

# How many compilers at once: one a core, and 1.5 GB of memory each.
build_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemAvailable/ { print int($2 / 1500000) }' /proc/meminfo)
  echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

# The compute capability of this machine's first GPU, as CMake writes it; nothing without one.
gpu_architecture() {
  command -v nvidia-smi >/dev/null || return 0
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n '1s/\.//p'
}

# configure PRESET [cmake arguments]: into build/PRESET, with Ninja in a new folder.
configure() {
  local preset=$1 architecture
  shift
  if [[ ! -e $root/build/$preset/CMakeCache.txt ]] && command -v ninja >/dev/null; then
    export CMAKE_GENERATOR=Ninja
  fi
  # For no GPU, no machine code: that takes nvcc as long as all the rest.
  architecture=$(gpu_architecture)
  (cd "$root" && cmake --preset "$preset" \
    "-DWARPHEAP_EXECUTABLE_ARCHITECTURES=${architecture:-75-virtual}" "$@")
}

# build PRESET TARGET...
build() {
  local preset=$1
  shift
  cmake --build "$root/build/$preset" --parallel "$(build_jobs)" --target "$@"
}
