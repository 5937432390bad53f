//! Waiting for many things at once, a bounded number at a time, in one task.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// Runs all futures, at most `together` at once, and gives their outputs in order.
pub(crate) async fn all<F: Future>(futures: impl Iterator<Item = F>, together: usize) -> Vec<F::Output> {
    let mut futures = futures.fuse();
    let mut outputs: Vec<Option<F::Output>> = Vec::new();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::with_capacity(together);
    std::future::poll_fn(|context| {
        loop {
            while running.len() < together {
                let Some(future) = futures.next() else { break };
                running.push((outputs.len(), Box::pin(future)));
                outputs.push(None);
            }
            let before = running.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(output) => {
                    outputs[*index] = Some(output);
                    false
                }
            });
            if running.is_empty() && before == 0 {
                return Poll::Ready(());
            }
            // What was just begun must be polled before this one rests.
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn all_are_run_in_order_and_few_at_once() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let futures = (0..100).map(|number| {
            let (running, most) = (&running, &most);
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                for _ in 0..number % 5 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                number
            }
        });
        assert_eq!(all(futures, 7).await, (0..100).collect::<Vec<_>>());
        assert!((2..=7).contains(&most.into_inner()));
    }

    #[tokio::test]
    async fn none_is_done_at_once() {
        assert!(all(std::iter::empty::<std::future::Ready<()>>(), 3).await.is_empty());
    }
}
