//! Numbered places that are used again, under numbers that are not: a table without hashing.

/// A table of at most 2³² things, found by the number given at insertion.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `thing` in, and gives its number, which no other one gets before 2³² more have had the same place.
    pub fn insert(&mut self, thing: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 things")
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(thing);
        (u64::from(place.0) << 32) | u64::from(index)
    }

    /// The number that the next insertion gives.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        let index = self
            .free
            .last()
            .copied()
            .unwrap_or_else(|| u32::try_from(self.places.len()).expect("fewer than 2^32 things"));
        let generation = self.places.get(index as usize).map_or(0, |place| place.0);
        (u64::from(generation) << 32) | u64::from(index)
    }

    fn place(number: u64) -> (u32, usize) {
        let index = usize::try_from(number & u64::from(u32::MAX)).expect("32 bits");
        (u32::try_from(number >> 32).expect("32 bits"), index)
    }

    /// The thing with this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        let (generation, index) = Self::place(number);
        self.places.get(index).filter(|place| place.0 == generation)?.1.as_ref()
    }

    /// The same, to change.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (generation, index) = Self::place(number);
        self.places.get_mut(index).filter(|place| place.0 == generation)?.1.as_mut()
    }

    /// Takes it out.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let (generation, index) = Self::place(number);
        let place = self.places.get_mut(index).filter(|place| place.0 == generation)?;
        let thing = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(u32::try_from(index).expect("32 bits"));
        Some(thing)
    }

    /// All of them with their numbers, by place.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places.iter().enumerate().filter_map(|(index, (generation, thing))| {
            Some(((u64::from(*generation) << 32) | index as u64, thing.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_not_used_again() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        let second = slab.insert('b');
        assert_eq!((slab.get(first), slab.get(second)), (Some(&'a'), Some(&'b')));
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        let next = slab.next_number();
        let third = slab.insert('c');
        assert_eq!(next, third);
        assert_ne!(first, third);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(third), Some(&mut 'c'));
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.iter().map(|(number, _)| number).collect::<Vec<_>>(), [third, second]);
        assert_eq!(slab.get(u64::MAX), None);
    }
}
