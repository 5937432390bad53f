//! The far end of the protocol: answers requests to sign with one key, line by line, until the input ends.

use std::io::{self, BufRead, Write};

use skerry_proof::Signer;

use crate::answer::{Answer, parse_request};

/// The longest request that is read, in bytes: a checkpoint with a total in every currency there is takes far less.
pub const REQUEST_LENGTH_MAX: u64 = 1 << 20;

/// Answers every request on `input`. A line that is none is answered with an error too.
///
/// # Errors
///
/// What reading or writing says, and a line longer than [`REQUEST_LENGTH_MAX`].
pub fn serve(signer: &dyn Signer, mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut input, REQUEST_LENGTH_MAX).read_line(&mut line)?;
        if read == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request is cut short or too long"));
        }
        writeln!(output, "{}", answer(signer, &line).line())?;
        output.flush()?;
    }
}

fn answer(signer: &dyn Signer, line: &str) -> Answer {
    let Some((key, message)) = parse_request(line) else {
        return Answer::Error("a request is: sign KEY MESSAGE, both in hexadecimal".to_owned());
    };
    if key != signer.key_id() {
        return Answer::Error(format!("key {key} is not here, but key {}", signer.key_id()));
    }
    match signer.sign(&message) {
        Ok(signature) => Answer::Signature(signature),
        Err(error) => Answer::Error(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::request;
    use skerry_proof::{Ed25519Signer, KeyId};

    #[test]
    fn each_line_is_answered() {
        let signer = Ed25519Signer::from_seed(&[1; 32]);
        let asked = [request(signer.key_id(), b"one"), request(KeyId([9; 16]), b"two"), "hello\n".to_owned()];
        let mut said = Vec::new();
        serve(&signer, asked.concat().as_bytes(), &mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let signature = signer.sign(b"one").unwrap();
        assert_eq!(Answer::parse(lines[0].as_bytes()), Ok(Answer::Signature(signature)));
        assert!(lines[1].starts_with("error key 0909"), "{}", lines[1]);
        assert!(lines[2].starts_with("error a request is"), "{}", lines[2]);
        assert_eq!(lines.len(), 3);
        assert!(serve(&signer, b"sign ".as_slice(), Vec::new()).is_err(), "cut short");
    }
}
