//! Sorting by what must come before what, as disko does.

/// Sorts so that whatever must come `before` something does; otherwise stable as nixpkgs' `lib.toposort` is: take the head
/// of the list, walk to its first predecessor still in the list, and on, and put that one next. `None` on a cycle.
pub(crate) fn toposort<T>(mut list: Vec<T>, before: impl Fn(&T, &T) -> bool) -> Option<Vec<T>> {
    let mut sorted = Vec::with_capacity(list.len());
    while !list.is_empty() {
        let mut current = list.remove(0);
        // What was walked over, last first; then what was not. That is the order the next round starts from.
        let mut visited: Vec<T> = Vec::new();
        loop {
            if visited.iter().any(|other| before(other, &current)) {
                return None;
            }
            let (mut earlier, rest): (Vec<T>, Vec<T>) = list.into_iter().partition(|other| before(other, &current));
            if earlier.is_empty() {
                list = rest;
                break;
            }
            visited.insert(0, current);
            current = earlier.remove(0);
            earlier.extend(rest);
            list = earlier;
        }
        sorted.push(current);
        visited.append(&mut list);
        list = visited;
    }
    Some(sorted)
}
