//! Is a program statically linked?

use anyhow::{Context as _, bail, ensure};

/// Type of the program header that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Whether the program starts without a dynamic loader, and so without any library of the image that it is in.
///
/// # Errors
///
/// It is no 64-bit ELF program, or one that names a loader.
pub(crate) fn ensure_static(program: &[u8]) -> anyhow::Result<()> {
    ensure!(
        program.starts_with(b"\x7fELF\x02\x01"),
        "it is no 64-bit program of Linux"
    );
    let number = |start: usize, bytes: usize| -> anyhow::Result<u64> {
        let field = program.get(start..start + bytes).context("it is cut off")?;
        Ok(field
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for index in 0..count {
        let start = usize::try_from(table + index * size).context("it is cut off")?;
        if number(start, 4)? != u64::from(PT_INTERP) {
            continue;
        }
        let place = usize::try_from(number(start + 8, 8)?).context("it is cut off")?;
        let length = usize::try_from(number(start + 32, 8)?).context("it is cut off")?;
        let loader = program.get(place..place + length).unwrap_or_default();
        let loader = String::from_utf8_lossy(loader);
        bail!(
            "it is linked dynamically and needs {}; build it with `cargo xtask image`",
            loader.trim_end_matches('\0')
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one program header of this type, which points to the text behind it.
    fn program(kind: u32, text: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x40 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 0x40;
        bytes[0x36] = 56;
        bytes[0x38] = 1;
        bytes[0x40..0x44].copy_from_slice(&kind.to_le_bytes());
        bytes[0x48] = 0x40 + 56;
        bytes[0x60] = u8::try_from(text.len()).unwrap();
        bytes.extend(text);
        bytes
    }

    #[test]
    fn a_program_with_a_loader_is_refused_by_its_name() {
        ensure_static(&program(1, b"")).unwrap();
        let refusal = ensure_static(&program(PT_INTERP, b"/lib64/ld-linux-x86-64.so.2\0")).unwrap_err();
        assert!(
            refusal.to_string().contains("needs /lib64/ld-linux-x86-64.so.2;"),
            "{refusal}"
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(ensure_static(b"#!/bin/sh\n").is_err());
        assert!(ensure_static(&program(1, b"")[..0x41]).is_err());
    }
}
