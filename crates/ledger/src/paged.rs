//! A growing array in pages that are copied before their first change after a mark.
//!
//! Cloning the array clones one pointer per page. Of millions of accounts that is many milliseconds, so a mark can
//! also be made in slices: from [`begin_mark`](PagedVec::begin_mark) on, a page is kept for it when the walk reaches
//! the page or when the page is about to change, whichever comes first. The array refuses to know what it holds.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// `PAGE` elements to a page. A small page makes the copy after a mark cheap, a large one the mark.
#[derive(Debug)]
pub(crate) struct PagedVec<T, const PAGE: usize> {
    pages: Vec<Arc<[T; PAGE]>>,
    len: usize,
    marking: Option<Marking<T, PAGE>>,
}

/// A mark that is being made.
#[derive(Debug)]
struct Marking<T, const PAGE: usize> {
    /// Pages as they were when it began; `None` where neither the walk nor a change has come by.
    kept: Vec<Option<Arc<[T; PAGE]>>>,
    /// Where the walk goes on.
    reached: usize,
    /// Elements when it began.
    len: usize,
}

impl<T, const PAGE: usize> Marking<T, PAGE> {
    /// Keeps `page` if nothing has yet.
    fn keep(&mut self, index: usize, page: &Arc<[T; PAGE]>) {
        if let Some(place @ None) = self.kept.get_mut(index) {
            *place = Some(Arc::clone(page));
        }
    }
}

/// What a clone sees is whole; a mark under way stays with the original.
impl<T, const PAGE: usize> Clone for PagedVec<T, PAGE> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone(), len: self.len, marking: None }
    }
}

impl<T: Copy, const PAGE: usize> PagedVec<T, PAGE> {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), len: 0, marking: None }
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
        let number = index.checked_div(PAGE)?;
        let page = self.pages.get_mut(number)?;
        if let Some(marking) = &mut self.marking {
            marking.keep(number, page);
        }
        Arc::make_mut(page).get_mut(index.checked_rem(PAGE)?)
    }

    /// Begins a mark of this moment, in place of one that is under way.
    pub(crate) fn begin_mark(&mut self) {
        let mut kept = Vec::new();
        kept.resize_with(self.pages.len(), || None);
        self.marking = Some(Marking { kept, reached: 0, len: self.len });
    }

    /// Keeps up to `pages` more. Returns the mark once it is whole; `None` if it is not, or if none was begun.
    pub(crate) fn advance_mark(&mut self, pages: usize) -> Option<Self> {
        let marking = self.marking.as_mut()?;
        let end = marking.reached.saturating_add(pages).min(marking.kept.len());
        for index in marking.reached..end {
            // Beyond the array's end is only what was kept before it went.
            if let Some(page) = self.pages.get(index) {
                marking.keep(index, page);
            }
        }
        marking.reached = end;
        if end < marking.kept.len() {
            return None;
        }
        let Marking { kept, len, .. } = self.marking.take()?;
        let pages = kept.into_iter().map(|page| page.expect("the walk has been everywhere")).collect();
        Some(Self { pages, len, marking: None })
    }

    /// Appends `value`. A new page is filled with copies of it, so that no default is needed.
    pub(crate) fn push(&mut self, value: T) {
        let offset = self.len.checked_rem(PAGE).expect("a page holds at least one element");
        if offset == 0 {
            self.pages.push(Arc::new([value; PAGE]));
        } else {
            self.keep_last();
            if let Some(slot) = self.pages.last_mut().map(Arc::make_mut).and_then(|page| page.get_mut(offset))
            {
                *slot = value;
            }
        }
        self.len = self.len.checked_add(1).expect("an array is shorter than the address space");
    }

    /// Drops the last element; its page stays for the next push to reuse.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let value = *self.get(last)?;
        self.keep_last();
        self.len = last;
        if last.checked_rem(PAGE) == Some(0) {
            self.pages.pop();
        }
        Some(value)
    }

    fn keep_last(&mut self) {
        let Some(marking) = &mut self.marking else { return };
        if let (Some(index), Some(page)) = (self.pages.len().checked_sub(1), self.pages.last()) {
            marking.keep(index, page);
        }
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

    /// Whatever happens between the slices, the mark is what the array was when it began.
    #[test]
    fn a_mark_in_slices_keeps_what_it_saw() {
        for slice in [1, 2, 5] {
            let mut array = PagedVec::<u32, 4>::new();
            (0..41).for_each(|value| array.push(value));
            array.begin_mark();
            let mut round = 0;
            let mark = loop {
                *array.get_mut(39).unwrap() = 1_000 + round;
                *array.get_mut(0).unwrap() = 2_000 + round;
                assert!(array.pop().is_some());
                array.push(3_000 + round);
                array.push(4_000 + round);
                round += 1;
                if let Some(mark) = array.advance_mark(slice) {
                    break mark;
                }
            };
            assert!(mark.iter().copied().eq(0..41), "{slice} pages at a time");
            assert_eq!(array.get(0), Some(&(1_999 + round)));
            assert!(array.advance_mark(1).is_none(), "it is made once");
        }
    }

    #[test]
    fn the_mark_of_an_array_that_shrank_is_whole() {
        let mut array = PagedVec::<u32, 4>::new();
        (0..9).for_each(|value| array.push(value));
        array.begin_mark();
        (0..7).for_each(|_| assert!(array.pop().is_some()));
        (0..20).for_each(|value| array.push(100 + value));
        assert!(array.advance_mark(100).unwrap().iter().copied().eq(0..9));
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
