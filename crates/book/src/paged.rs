//! Lists in pages that are copied before their first change after a mark.
//!
//! Cloning a list clones one pointer a page: that is the mark of a snapshot, and its only cost. Both lists refuse
//! to know what they hold.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Elements of a page.
pub(crate) const PAGE: usize = 64;

/// A list that grows at its end.
#[derive(Debug, Clone)]
pub(crate) struct Paged<T> {
    pages: Vec<Arc<Vec<T>>>,
    length: usize,
}

/// Derived, it would ask for `T: Default`.
impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), length: 0 }
    }
}

impl<T: Clone> Paged<T> {
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index.checked_div(PAGE)?)?.get(index.checked_rem(PAGE)?)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let page = self.pages.get_mut(index.checked_div(PAGE)?)?;
        owned(page).get_mut(index.checked_rem(PAGE)?)
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => owned(page).push(value),
            _ => self.pages.push(Arc::new(new_page(value))),
        }
        self.length = self.length.checked_add(1).expect("a list is shorter than the address space");
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}

/// A queue of numbered elements: the number of an element never changes, and whole pages leave at the front.
#[derive(Debug, Clone)]
pub(crate) struct PagedQueue<T> {
    pages: VecDeque<Arc<Vec<T>>>,
    first: u64,
    length: usize,
}

impl<T> Default for PagedQueue<T> {
    fn default() -> Self {
        Self { pages: VecDeque::new(), first: 0, length: 0 }
    }
}

impl<T: Clone> PagedQueue<T> {
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// The number of the first element, or of the next if there is none.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// An empty queue whose next element has this number.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.pages.get(index.checked_div(PAGE)?)?.get(index.checked_rem(PAGE)?)
    }

    /// Appends, and says the number.
    pub(crate) fn push(&mut self, value: T) -> u64 {
        let number = u64::try_from(self.length).ok().and_then(|length| self.first.checked_add(length));
        match self.pages.back_mut() {
            Some(page) if page.len() < PAGE => owned(page).push(value),
            _ => self.pages.push_back(Arc::new(new_page(value))),
        }
        self.length = self.length.checked_add(1).expect("a queue is shorter than the address space");
        number.expect("no queue counts to 2^64")
    }

    /// Takes the first page away if it is full and `is_over` says so of its last element.
    pub(crate) fn pop_page(&mut self, is_over: impl FnOnce(&T) -> bool) -> Option<Arc<Vec<T>>> {
        let page = self.pages.front()?;
        if page.len() < PAGE || !page.last().is_some_and(is_over) {
            return None;
        }
        let page = self.pages.pop_front()?;
        let gone = u64::try_from(page.len()).ok();
        self.first = gone.and_then(|gone| self.first.checked_add(gone)).expect("no queue counts to 2^64");
        self.length = self.length.checked_sub(page.len()).expect("a queue counts the elements of its pages");
        Some(page)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}

fn new_page<T>(value: T) -> Vec<T> {
    let mut page = Vec::with_capacity(PAGE);
    page.push(value);
    page
}

/// The page for writing; a shared one is copied with its full capacity, so that it never grows again.
fn owned<T: Clone>(page: &mut Arc<Vec<T>>) -> &mut Vec<T> {
    if Arc::get_mut(page).is_none() {
        let mut copy = Vec::with_capacity(PAGE);
        copy.extend_from_slice(page);
        *page = Arc::new(copy);
    }
    Arc::get_mut(page).expect("just made, so nobody shares it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_what_it_saw() {
        let mut list = Paged::default();
        (0..200).for_each(|value| list.push(value));
        let mark = list.clone();
        *list.get_mut(3).unwrap() = 1_000;
        list.push(200);
        assert_eq!((mark.get(3), mark.len(), mark.get(200)), (Some(&3), 200, None));
        assert_eq!((list.get(3), list.len(), list.get(200)), (Some(&1_000), 201, Some(&200)));
        assert!(mark.iter().copied().eq(0..200));
    }

    #[test]
    fn a_queue_keeps_its_numbers() {
        let mut queue = PagedQueue::default();
        for value in 0..150_u64 {
            assert_eq!(queue.push(value), value);
        }
        assert!(queue.pop_page(|last| *last < 63).is_none());
        assert_eq!(queue.pop_page(|last| *last == 63).unwrap().len(), PAGE);
        assert_eq!((queue.first(), queue.len(), queue.get(63), queue.get(64)), (64, 86, None, Some(&64)));
        assert!(queue.pop_page(|_| true).is_some());
        assert!(queue.pop_page(|_| true).is_none(), "a page that still fills stays");
        assert!(queue.iter().copied().eq(128..150));
        assert_eq!(queue.push(150), 150);
    }
}
