//! Devices of the guest's that are hardware to our programs in there.

use std::time::Duration;

use crate::guest::Guest;
use crate::{Error, Result};

impl Guest {
    /// Gives the only PCI function of a kind, such as `1234:1111`, to user space, by `vfio-pci`; returns its
    /// address.
    pub fn give(&mut self, id: &str) -> Result<String> {
        let functions = self.give_all(id)?;
        <[String; 1]>::try_from(functions)
            .map(|[function]| function)
            .map_err(|found| Error::Guest(format!("of {id} there is not one, but {found:?}")))
    }

    /// Gives all PCI functions of a kind to user space; returns their addresses, in order.
    pub fn give_all(&mut self, id: &str) -> Result<Vec<String>> {
        let functions = self.pci_functions(id)?;
        for function in &functions {
            self.sh(&format!(
                "cd /sys/bus/pci && echo vfio-pci >devices/{function}/driver_override &&
                 echo {function} >drivers_probe"
            ))?;
        }
        Ok(functions)
    }

    /// What the program `physical` says, of what goes wrong as well.
    pub fn physical(&mut self, command: &str, limit: Duration) -> Result<String> {
        let command = format!("physical {command}");
        let output = self.run_within(&command, limit)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        println!("{command}: {said}");
        Ok(said.trim().to_owned())
    }
}
