// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The one context of the process: opened at first use, replaced after a fork and
//! after the program has closed its descriptor.

use crate::{
    border::keeping_errno,
    debug,
    fork_mark::ForkMark,
    settings::Settings,
    slot::{Held, Opened, Slot},
    Failure,
};
use qat_iommu::{Attach, Context, Mode};

/// The process that the library was loaded into.
pub static PROCESS: Process = Process::new(Settings::REAL);

/// One process and its context.
#[derive(Debug)]
pub struct Process {
    settings: Settings,
    slot: Slot,
}

/// What a process can reach.
#[derive(Debug)]
pub enum Reach {
    /// The module, through this context.
    Module(&'static Context),
    /// No module, in a virtual machine: there is nothing to do.
    NothingToDo,
}

impl Process {
    /// A process that finds things as `settings` says.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            slot: Slot::new(),
        }
    }

    /// What this process can reach. Mappings made through the context of a parent,
    /// or through one whose descriptor the program has closed, are not this
    /// context's.
    ///
    /// # Errors
    ///
    /// ENODEV on a host without the module; whatever opening the node gives; EINVAL
    /// or ENODEV for a PF named in the environment that is not one or is not there.
    pub fn reach(&self) -> Result<Reach, Failure> {
        loop {
            let held = self.slot.held();
            if let Held::Good(opened) = held {
                return Ok(Reach::Module(opened.context()));
            }
            if let Held::Closed(_) = held {
                debug::say(
                    "the program has closed the library's descriptor of the device, and with \
                     it the mappings made so far; keep it open",
                );
            }
            match self.open()? {
                Some(opened) => self.slot.replace(&held, opened),
                None => return Ok(Reach::NothingToDo),
            }
        }
    }

    /// Makes a call that takes the module: on the context as it is, and once more on a
    /// new one if it turns out that the program has closed this one's descriptor. To ask
    /// beforehand, as [`Process::reach`] does, would cost a system call each time.
    ///
    /// A descriptor that was closed refuses the command (EBADF). So does whatever file has got
    /// its number since: no other driver of the kernel has commands of the letter `q` from
    /// 0x80 up, and the answer to an unknown one is an error.
    ///
    /// Where it succeeds, errno is as it was if the call leaves it alone.
    ///
    /// The call is one that can be copied: what it holds need not be in memory for the sake
    /// of the second time.
    ///
    /// # Errors
    ///
    /// Those of the call and of [`Process::reach`]; ENODEV without the module, in a
    /// virtual machine as well.
    #[inline(always)]
    pub fn attempt<T>(
        &self,
        call: impl Fn(&'static Context) -> Result<T, qat_iommu::Error> + Copy,
    ) -> Result<T, Failure> {
        let now = call;
        let error = match self.slot.made_here() {
            Some(opened) => match now(opened.context()) {
                Ok(value) => return Ok(value),
                Err(error) => Some((opened, error)),
            },
            None => None,
        };
        match self.again(error, call) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(no_module()),
            Err(failure) => Err(failure),
        }
    }

    /// [`Process::attempt`] for calls that have nothing to do in a virtual machine without
    /// the module: `None`.
    ///
    /// # Errors
    ///
    /// Those of the call and of [`Process::reach`].
    #[inline(always)]
    pub fn attempt_if_any<T>(
        &self,
        call: impl Fn(&'static Context) -> Result<T, qat_iommu::Error> + Copy,
    ) -> Result<Option<T>, Failure> {
        let now = call;
        let error = match self.slot.made_here() {
            Some(opened) => match now(opened.context()) {
                Ok(value) => return Ok(Some(value)),
                Err(error) => Some((opened, error)),
            },
            None => None,
        };
        self.again(error, call)
    }

    /// After a call that failed, on this context, or when there is none yet.
    #[cold]
    #[inline(never)]
    fn again<T>(
        &self,
        failed: Option<(&'static Opened, qat_iommu::Error)>,
        call: impl Fn(&'static Context) -> Result<T, qat_iommu::Error> + Copy,
    ) -> Result<Option<T>, Failure> {
        if let Some((opened, error)) = failed {
            if opened.context().is_intact() {
                return Err(error.into());
            }
            // The descriptor is not ours any more: the error is of no interest.
        }
        keeping_errno(|| match self.reach()? {
            Reach::Module(context) => Ok(Some(call(context)?)),
            Reach::NothingToDo => Ok(None),
        })
    }

    fn open(&self) -> Result<Option<Opened>, Failure> {
        let context = match Context::open_node(self.settings.node) {
            Ok(context) => context,
            Err(error) if error.module_missing() && (self.settings.in_vm)() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(pf) = self.settings.wanted_pf()? {
            // In a virtual machine there is no PF to choose, and nothing to do.
            if context.info()?.mode != Mode::Vm {
                context.attach(Attach::Pf(pf))?;
            }
        }
        let mark = ForkMark::new().map_err(Failure::no_memory)?;
        Ok(Some(Opened::new(context, mark)))
    }
}

#[cold]
fn no_module() -> Failure {
    Failure::new(
        libc::ENODEV,
        "the kernel module is not loaded, without which no buffer can be mapped, in a virtual \
         machine either; load it with `modprobe qat_iommu`",
    )
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
