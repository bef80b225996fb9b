# Installs what building and running need and this machine lacks: PostgreSQL 15 or newer, libclang, a
# C compiler, Rust. Sourced by quickstart.sh and test.sh; says what it does, asks for nothing.

OLDEST_POSTGRES=15

say() { printf '== %s\n' "$*"; }
die() { printf 'howdah: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, or says which one a person must run.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif has sudo && sudo -n true 2>/dev/null; then sudo "$@"
  else die "this needs root; run it yourself and start again: sudo $*"; fi
}

# Runs a command that talks much and is of interest only when it fails.
quietly() {
  output=$("$@" 2>&1) && return 0
  printf '%s\n' "$output" | tail -n 20 >&2
  die "this failed, see above; mend it and start again: $*"
}

# Installs packages: apt names, then dnf names, then brew names, each as one quoted list.
install_packages() {
  if has apt-get; then
    say "installing $1 (apt-get)"
    [ -n "${APT_UPDATED:-}" ] || { quietly as_root apt-get update -q; APT_UPDATED=1; }
    # shellcheck disable=SC2086
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $1
  elif has dnf; then
    say "installing $2 (dnf)"
    # shellcheck disable=SC2086
    quietly as_root dnf install -y -q $2
  elif has brew; then
    say "installing $3 (brew)"
    # shellcheck disable=SC2086
    brew install --quiet $3
  else
    die "no apt-get, dnf or brew here: install PostgreSQL $OLDEST_POSTGRES or newer, libclang, a C compiler and Rust yourself"
  fi
}

# Directories that may hold PostgreSQL's programs, the likely ones first.
postgres_places() {
  if has pg_config; then pg_config --bindir; fi
  ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
    2>/dev/null || true
  dirname "$(command -v postgres 2>/dev/null || echo /nowhere/postgres)"
}

# The first directory with a server that is new enough.
find_postgres() {
  for place in $(postgres_places); do
    [ -x "$place/initdb" ] && [ -x "$place/postgres" ] || continue
    version=$("$place/postgres" --version | sed -E 's/.*\(PostgreSQL\) ([0-9]+).*/\1/')
    if [ "$version" -ge "$OLDEST_POSTGRES" ]; then echo "$place"; return; fi
  done
}

setup_postgres() {
  if [ -z "$(find_postgres)" ]; then
    if has apt-get; then
      quietly as_root apt-get update -q; APT_UPDATED=1
      offered=$(apt-cache depends postgresql 2>/dev/null | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p' | head -n 1)
      if [ "${offered:-0}" -lt "$OLDEST_POSTGRES" ]; then
        say "this system offers PostgreSQL ${offered:-none}: adding PostgreSQL's own repository"
        install_packages "postgresql-common ca-certificates" "" ""
        quietly as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y
      fi
    fi
    install_packages "postgresql postgresql-client" "postgresql-server postgresql-contrib" "postgresql@16"
  fi
  POSTGRES_BIN=$(find_postgres)
  [ -n "$POSTGRES_BIN" ] || die "PostgreSQL $OLDEST_POSTGRES or newer cannot be found, although it was installed"
  export PATH="$PATH:$POSTGRES_BIN"
  say "PostgreSQL: $POSTGRES_BIN"
}

has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  # libclang-cpp, which LLVM's own tools bring, is another library and is not enough.
  (ldconfig -p 2>/dev/null || true) | grep -cE 'libclang(-[0-9][0-9.]*)?\.so' >/dev/null && return 0
  for library in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so* /usr/lib64/libclang.so* \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
    [ -e "$library" ] && return 0
  done
  return 1
}

setup_compilers() {
  has cc || install_packages build-essential gcc gcc
  has_libclang || install_packages libclang-dev clang-devel llvm
  if has brew && [ -z "${LIBCLANG_PATH:-}" ] && [ -d "$(brew --prefix llvm 2>/dev/null)/lib" ]; then
    LIBCLANG_PATH="$(brew --prefix llvm)/lib"; export LIBCLANG_PATH
  fi
}

# Is version $1 at least $2?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

setup_rust() {
  [ -d "$HOME/.cargo/bin" ] && export PATH="$HOME/.cargo/bin:$PATH"
  wanted=$(sed -nE 's/^rust-version = "(.*)"/\1/p' Cargo.toml)
  if ! has cargo; then
    if has apt-get && apt-cache show rustup >/dev/null 2>&1; then install_packages rustup "" ""
    elif has dnf; then install_packages "" rustup ""
    elif has brew; then install_packages "" "" rust; fi
    if has rustup-init; then
      quietly rustup-init -y --no-modify-path -q
    elif ! has cargo && ! has rustup; then
      say "this system has no package of rustup: installing it from https://sh.rustup.rs into ~/.cargo and ~/.rustup"
      has curl || install_packages "curl ca-certificates" curl curl
      quietly sh -c "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --no-modify-path"
    fi
    export PATH="$HOME/.cargo/bin:$PATH"
  fi
  if has rustup && ! { has cargo && at_least "$(cargo --version 2>/dev/null | cut -d' ' -f2)" "$wanted"; }; then
    say "installing Rust (rustup)"
    rustup toolchain install stable --profile default --no-self-update
  fi
  has cargo || die "Rust is missing and could not be installed: install it from https://rustup.rs and start again"
  version=$(cargo --version | cut -d' ' -f2)
  at_least "$version" "$wanted" || die "Rust $version is too old, $wanted is needed: run 'rustup update', or see https://rustup.rs"
  say "Rust: $version"
}

setup() {
  setup_postgres
  setup_compilers
  setup_rust
}
