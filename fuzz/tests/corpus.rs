//! Replays the kept corpus through every edge, without the fuzzing engine: what broke once must not break again.

use std::path::Path;

#[test]
fn every_kept_input_is_taken_or_refused() {
    for (name, edge) in skerry_fuzz::EDGES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut count = 0;
        for file in std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("corpus/{name} is kept")) {
            edge(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "corpus/{name} is empty");
    }
}
