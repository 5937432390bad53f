//! A growing array in pages that are copied before their first change after a mark.
//!
//! Cloning the array clones one pointer per page: that is the mark of a snapshot, and the only cost of
//! it. It refuses to know what it holds. Elements are never removed.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// `PAGE` elements to a page. A small page makes the copy after a mark cheap, a large one the mark.
#[derive(Debug, Clone)]
pub(crate) struct PagedVec<T, const PAGE: usize> {
    pages: Vec<Arc<[T; PAGE]>>,
    len: usize,
}

impl<T: Copy, const PAGE: usize> PagedVec<T, PAGE> {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        // The tail of the last page is filler and must not be seen.
        if index >= self.len {
            return None;
        }
        self.pages.get(index.checked_div(PAGE)?)?.get(index.checked_rem(PAGE)?)
    }

    /// Reads what [`get_mut`](Self::get_mut) will touch besides the element: the page's count of sharers.
    #[inline]
    pub(crate) fn sharers(&self, index: usize) -> Option<usize> {
        self.pages.get(index.checked_div(PAGE)?).map(Arc::strong_count)
    }

    /// The element for writing; copies its page if a clone of the array still shares it.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.len {
            return None;
        }
        let page = self.pages.get_mut(index.checked_div(PAGE)?)?;
        Arc::make_mut(page).get_mut(index.checked_rem(PAGE)?)
    }

    /// Appends `value`. A new page is filled with copies of it, so that no default is needed.
    pub(crate) fn push(&mut self, value: T) {
        let offset = self.len.checked_rem(PAGE).expect("a page holds at least one element");
        if offset == 0 {
            self.pages.push(Arc::new([value; PAGE]));
        } else if let Some(slot) =
            self.pages.last_mut().map(Arc::make_mut).and_then(|page| page.get_mut(offset))
        {
            *slot = value;
        }
        self.len = self.len.checked_add(1).expect("an array is shorter than the address space");
    }

    /// Drops the last element; its page stays for the next push to reuse.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let value = *self.get(last)?;
        self.len = last;
        if last.checked_rem(PAGE) == Some(0) {
            self.pages.pop();
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.len)
    }

    /// Bytes on the heap, counting shared pages in full and 16 bytes of the allocator's own for each.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        let counts = (2 * size_of::<usize>()).next_multiple_of(align_of::<T>());
        let page = counts + size_of::<[T; PAGE]>() + 16;
        self.pages.len() * page + self.pages.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::PagedVec;

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut array = PagedVec::<u32, 4>::new();
        for value in 0..10 {
            array.push(value);
        }
        let mark = array.clone();
        *array.get_mut(9).unwrap() = 90;
        *array.get_mut(0).unwrap() = 100;
        array.push(10);
        assert_eq!(
            mark.iter().copied().collect::<alloc::vec::Vec<_>>(),
            (0..10).collect::<alloc::vec::Vec<_>>()
        );
        assert_eq!(array.get(9), Some(&90));
        assert_eq!(array.get(0), Some(&100));
        assert_eq!(array.get(10), Some(&10));
    }

    #[test]
    fn the_filler_of_the_last_page_is_not_seen() {
        let mut array = PagedVec::<u32, 4>::new();
        array.push(7);
        assert_eq!(array.get(1), None);
        assert_eq!(array.get_mut(1), None);
        assert_eq!(array.iter().count(), 1);
        assert_eq!(array.pop(), Some(7));
        assert_eq!(array.pop(), None);
        array.push(8);
        assert_eq!(array.get(0), Some(&8));
    }
}
