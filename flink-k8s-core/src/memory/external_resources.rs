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
