// The thread pool behind `parallel_for`.
#include "parallel.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

namespace siamfast {
namespace {

class Pool {
  public:
    // Only one caller at a time holds `busy`, so there is one job at a time.
    std::mutex busy;

    void run(int count, int threads, const std::function<void(int)> &task) {
        {
            std::lock_guard<std::mutex> hold(mutex_);
            while (workers_ < threads - 1) {
                std::thread([this, number = workers_] { work(number); }).detach();
                ++workers_;
            }
            task_ = &task;
            count_ = count;
            next_.store(0);
            helpers_ = threads - 1;
            ++job_;
        }
        wake_.notify_all();
        drain(task, count);
        // Every task is taken now. Wait for the workers that took some, not for those that have not even woken up: on a
        // busy machine these come milliseconds later (measured: a fifth of the calls took 3 to 5 ms instead of less than 1).
        std::unique_lock<std::mutex> hold(mutex_);
        task_ = nullptr;
        finished_.wait(hold, [this] { return running_ == 0; });
    }

  private:
    void drain(const std::function<void(int)> &task, int count) {
        for (int index = next_.fetch_add(1); index < count; index = next_.fetch_add(1)) task(index);
    }

    [[noreturn]] void work(int number) {
        long seen = 0;
        for (;;) {
            const std::function<void(int)> *task = nullptr;
            int count = 0;
            {
                std::unique_lock<std::mutex> hold(mutex_);
                wake_.wait(hold, [&] { return job_ != seen && number < helpers_ && task_ != nullptr; });
                seen = job_;
                task = task_;
                count = count_;
                ++running_;
            }
            drain(*task, count);
            std::lock_guard<std::mutex> hold(mutex_);
            if (--running_ == 0) finished_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    const std::function<void(int)> *task_ = nullptr;
    std::atomic<int> next_{0};
    int count_ = 0, workers_ = 0, helpers_ = 0, running_ = 0;
    long job_ = 0;
};

// Never destroyed: the workers are detached and wait on it until the process ends.
std::atomic<Pool *> pool{nullptr};

// A forked child has the pool's memory but none of its threads, and its locks may be held by threads that are gone:
// it leaves the old pool alone and makes a new one.
void forget_pool_in_child() { pool.store(nullptr); }

Pool *current_pool() {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child);
    static_cast<void>(registered);
    Pool *found = pool.load();
    if (found != nullptr) return found;
    Pool *made = new (std::nothrow) Pool;
    if (made != nullptr && !pool.compare_exchange_strong(found, made)) {
        delete made;  // another thread was first; nobody has seen this one
        return found;
    }
    return made;
}

}  // namespace

void parallel_for(int count, int threads, const std::function<void(int)> &task) {
    const int used = threads < count ? threads : count;
    if (used > 1) {
        Pool *shared = current_pool();
        if (shared != nullptr) {
            std::unique_lock<std::mutex> mine(shared->busy, std::try_to_lock);
            if (mine.owns_lock()) {
                shared->run(count, used, task);
                return;
            }
        }
    }
    for (int index = 0; index < count; ++index) task(index);
}

}  // namespace siamfast
