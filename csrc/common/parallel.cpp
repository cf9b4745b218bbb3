// The threads behind `parallel_for`: those of the OpenMP library that PyTorch has loaded, else a pool of our own.
#include "common/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

namespace siamfast {
namespace {

// One call: whoever is free takes a run of its tasks, long ones first. Neighbours stay on one core, for a task may
// fetch what the next one reads (taken one by one, two threads that took turns were slower than one).
struct Job {
    const std::function<void(int)> *task;
    int count, threads;
    std::atomic<int> next;

    void drain() {
        int begin = next.load();
        while (begin < count) {
            const int end = begin + std::max(1, (count - begin) / (2 * threads));
            if (!next.compare_exchange_weak(begin, end)) continue;
            for (int index = begin; index < end; ++index) (*task)(index);
            begin = next.load();
        }
    }
};

// ------------------------------------------------------------------------------------------------ PyTorch's threads
// A second pool beside PyTorch's fights it for the cores: OpenMP's threads spin for milliseconds after a convolution
// and ours, woken meanwhile, waits (measured: two threads took as long as one). So the same threads work for us,
// through GOMP_parallel, which GNU's OpenMP and LLVM's have alike.
using GompParallel = void (*)(void (*)(void *), void *, unsigned, unsigned);

#if defined(__linux__)
int find_openmp(dl_phdr_info *info, std::size_t, void *found) {
    const char *file = info->dlpi_name == nullptr ? "" : std::strrchr(info->dlpi_name, '/');
    if (file == nullptr || (std::strncmp(file, "/libgomp", 8) != 0 && std::strncmp(file, "/libomp", 7) != 0 &&
                            std::strncmp(file, "/libiomp", 8) != 0))
        return 0;
    void *library = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return 0;
    *static_cast<void **>(found) = dlsym(library, "GOMP_parallel");
    return *static_cast<void **>(found) != nullptr;
}
#endif

GompParallel loaded_openmp() {
    void *found = nullptr;
#if defined(__linux__)
    dl_iterate_phdr(find_openmp, &found);
#endif
    GompParallel function = nullptr;
    static_assert(sizeof(function) == sizeof(found), "a function's address fits a pointer");
    std::memcpy(&function, &found, sizeof(found));
    return function;
}

// -------------------------------------------------------------------------------------------------------- a pool
class Pool {
  public:
    // Only one caller at a time holds `busy`, so there is one job at a time.
    std::mutex busy;

    void run(Job &job, int threads) {
        {
            std::lock_guard<std::mutex> hold(mutex_);
            while (workers_ < threads - 1) {
                std::thread([this, number = workers_] { work(number); }).detach();
                ++workers_;
            }
            job_ = &job;
            helpers_ = threads - 1;
            ++number_;
        }
        wake_.notify_all();
        job.drain();
        // Every task is taken now. Wait for the workers that took some, not for those that have not even woken up: on a
        // busy machine these come milliseconds later (measured: a fifth of the calls took 3 to 5 ms instead of less
        // than 1).
        std::unique_lock<std::mutex> hold(mutex_);
        job_ = nullptr;
        finished_.wait(hold, [this] { return running_ == 0; });
    }

  private:
    [[noreturn]] void work(int number) {
        long seen = 0;
        for (;;) {
            Job *job = nullptr;
            {
                std::unique_lock<std::mutex> hold(mutex_);
                wake_.wait(hold, [&] { return number_ != seen && number < helpers_ && job_ != nullptr; });
                seen = number_;
                job = job_;
                ++running_;
            }
            job->drain();
            std::lock_guard<std::mutex> hold(mutex_);
            if (--running_ == 0) finished_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    Job *job_ = nullptr;
    int workers_ = 0, helpers_ = 0, running_ = 0;
    long number_ = 0;
};

// Never destroyed: the workers are detached and wait on it until the process ends.
std::atomic<Pool *> pool{nullptr};
std::atomic<bool> forked{false};

// A forked child has the parent's memory but none of its threads, and locks may be held by threads that are gone. It
// leaves the old pool alone and makes a new one; OpenMP's it cannot make anew, and would wait for ever.
void forget_threads_in_child() {
    pool.store(nullptr);
    forked.store(true);
}

Pool *current_pool() {
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
    static const int registered = pthread_atfork(nullptr, nullptr, forget_threads_in_child);
    static_cast<void>(registered);
    const int used = threads < count ? threads : count;
    Job job{&task, count, std::max(used, 1), {0}};
    if (used > 1 && !forked.load()) {
        static const GompParallel openmp = loaded_openmp();  // callers import torch first
        if (openmp != nullptr) {
            openmp([](void *shared) { static_cast<Job *>(shared)->drain(); }, &job, static_cast<unsigned>(used), 0);
            return;
        }
    }
    if (used > 1) {
        Pool *shared = current_pool();
        if (shared != nullptr) {
            std::unique_lock<std::mutex> mine(shared->busy, std::try_to_lock);
            if (mine.owns_lock()) {
                shared->run(job, used);
                return;
            }
        }
    }
    job.drain();
}

}  // namespace siamfast
