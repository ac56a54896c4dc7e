//! A folder of hostile files: every case, noise, and damaged copies of real plugins.

use std::path::{Path, PathBuf};

use super::all;

/// Where builds leave components, relative to the repository.
const BUILT: [&str; 2] = [
    "../../plugins/target/wasm32-wasip2/release",
    "../../tests/guests/target/wasm32-wasip2/release",
];
/// Files of noise.
const NOISE: u64 = 20;
/// The same files each time.
const SEED: u64 = 0x5eed;

/// Writes them; returns how many files there are. Of plugins that are not built there are no copies.
pub(crate) fn fill(folder: &Path, damaged: usize) -> usize {
    let mut files = Vec::new();
    for (name, case) in all() {
        files.push((format!("{name}.wasm"), case().attack.component(9)));
    }
    let mut random = Random(SEED);
    for at in 0..NOISE {
        files.push((format!("noise_{at}.wasm"), noise(&mut random, at)));
    }
    files.push(("noise.wat".to_owned(), b"(component (core module".to_vec()));
    let plugins = all_built();
    for at in 0..damaged {
        if let Some((name, bytes)) = plugins.get(at % plugins.len().max(1)) {
            files.push((
                format!("damaged_{at}_{name}"),
                damage(&mut random, bytes.clone(), at),
            ));
        }
    }
    for (name, bytes) in &files {
        std::fs::write(folder.join(name), bytes).expect("the folder takes a file");
    }
    files.len()
}

/// Bytes that begin like a component, a module or nothing.
fn noise(random: &mut Random, at: u64) -> Vec<u8> {
    let mut bytes = match at % 3 {
        0 => b"\0asm\x0d\0\x01\0".to_vec(),
        1 => b"\0asm\x01\0\0\0".to_vec(),
        _ => Vec::new(),
    };
    let length = random.below(20_000);
    bytes.extend((0..length).map(|_| random.below(256) as u8));
    bytes
}

/// Flips some bytes, cuts the end off, or repeats a part.
fn damage(random: &mut Random, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    match at % 8 {
        6 => bytes.truncate(random.below(bytes.len())),
        7 => {
            let from = random.below(bytes.len() - 1000);
            let part = bytes[from..from + 1000].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, part);
        }
        // One bit mostly: two and more are seldom valid.
        kind => {
            for _ in 0..=kind / 4 * 20 {
                let place = random.below(bytes.len());
                bytes[place] ^= 1 << random.below(8);
            }
        }
    }
    bytes
}

/// A component that is built, such as `otlp.wasm`.
///
/// # Panics
/// When it is not.
#[cfg(test)]
pub(crate) fn built(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = BUILT.iter().map(|folder| package.join(folder).join(name));
    paths
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not built: cargo xtask plugins"))
}

/// The components that are built, by name.
fn all_built() -> Vec<(String, Vec<u8>)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = BUILT
        .iter()
        .filter_map(|folder| std::fs::read_dir(package.join(folder)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, std::fs::read(path).ok()?))
        })
        .collect()
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % bound.max(1)
    }
}
