//! The state file of a native program: in the working directory.

use std::io::ErrorKind;

use crate::Error;

const NAME: &str = "manyhands.state";

/// What is in it; none where there is none.
pub(crate) fn read() -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(NAME) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(_) => Err(Error::failure("the state file cannot be read")),
    }
}

/// Replaces what is in it.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(NAME, bytes).map_err(|_| Error::failure("the state file cannot be written"))
}
