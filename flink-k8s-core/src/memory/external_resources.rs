//! External resources, such as GPUs, of a TaskManager.

use std::collections::BTreeMap;

use crate::configuration::common_options::{EXTERNAL_RESOURCES, external_resource_amount_key};
use crate::configuration::{FlinkConfiguration, InvalidOptionValue, OptionValue};

/// The value which says that there are none.
pub(super) const NONE: &str = "none";

/// The amounts of the external resources that every TaskManager gets, by name. One without a positive
/// amount does not count.
///
/// # Errors
///
/// [`InvalidOptionValue`] if an amount is not a whole number.
pub fn external_resource_amounts(
    configuration: &FlinkConfiguration,
) -> Result<BTreeMap<String, u64>, InvalidOptionValue> {
    let names = configuration.get(&EXTERNAL_RESOURCES)?;
    let mut amounts = BTreeMap::new();
    if names == [NONE] {
        return Ok(amounts);
    }
    for name in names {
        let key = external_resource_amount_key(&name);
        let Some(setting) = configuration.setting(&key) else {
            continue;
        };
        let amount =
            i64::parse(&setting.text).map_err(|cause| InvalidOptionValue::new(&key, &setting.text, cause))?;
        if let Ok(amount @ 1..) = u64::try_from(amount) {
            amounts.insert(name, amount);
        }
    }
    Ok(amounts)
}

/// Puts names into the order in which Flink writes them: that of a Java hash map. Two whose hashes fall
/// together stay in alphabetical order.
pub(super) fn in_java_hash_order<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Vec<&'a str> {
    let mut buckets: u32 = 16;
    // Java doubles a map that is three quarters full.
    while names.len() > buckets as usize / 4 * 3 {
        buckets *= 2;
    }
    let bucket = |name: &&str| {
        let hash = name.encode_utf16().fold(0_u32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(u32::from(unit))
        });
        (hash ^ (hash >> 16)) & (buckets - 1)
    };
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_by_key(bucket);
    names
}
