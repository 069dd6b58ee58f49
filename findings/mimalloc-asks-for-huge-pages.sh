#!/usr/bin/env bash
# mimalloc 3, which the crate mimalloc 0.1.52 (libmimalloc-sys 0.1.49) builds, asks the kernel for huge pages by default.
#
# Expected: as with glibc, memory is made of huge pages only if the system says `always`; memory that is given back stays given back.
# Seen on Linux with /sys/kernel/mm/transparent_hugepage/enabled at `madvise`, a usual default: the arena's mapping has the flag `hg`
# (MADV_HUGEPAGE) in /proc/self/smaps. khugepaged may then fill holes that the allocator has purged, and the resident size of an idle
# process grows again by itself. With the crate's feature `no_thp` the flag is not there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >src/main.rs <<'RUST'
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let bytes = vec![1_u8; 8 << 20];
    let at = bytes.as_ptr() as usize;
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().unwrap_or_default().split_once('-');
        let address = |text: &str| usize::from_str_radix(text, 16).ok();
        if let Some((from, to)) = range.and_then(|(from, to)| address(from).zip(address(to))) {
            inside = (from..to).contains(&at);
        }
        if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            println!("{}", if flags.split(' ').any(|flag| flag == "hg") { "asked" } else { "not asked" });
        }
    }
}
RUST
manifest() {
  printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
  printf 'mimalloc = { version = "=0.1.52", default-features = false, features = [%s] }\nlibmimalloc-sys = "=0.1.49"\n' "$1"
}
run() {
  manifest "$1" >Cargo.toml
  cargo run -q
}
default=$(run '')
without=$(run '"no_thp"')
echo "default: $default; with no_thp: $without" >&2
[[ $default == asked && $without == "not asked" ]]
