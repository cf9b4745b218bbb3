// A small thread pool: `parallel_for` splits independent tasks over the caller and its workers.
#pragma once

#include <functional>

namespace siamfast {

// Runs task(0) ... task(count - 1), each once, on at most `threads` threads, the caller among them; returns when all
// are done. Tasks must be independent and must not throw. When another thread is using the pool, or in a process that
// was forked while the pool was busy, the caller does all of them itself or with a new pool: it never waits for a
// thread that is not there.
void parallel_for(int count, int threads, const std::function<void(int)> &task);

}  // namespace siamfast
