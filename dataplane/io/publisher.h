// Hands Snapshots from the control thread to the workers, and takes the old ones back.
//
// Publication is one pointer store. A worker loads the pointer for each burst; from its next burst
// on it works by the new Snapshot. What is hard is to know when nobody reads the old one any more.
// A reference count would make every burst of every worker write the same cache line, a lock would
// make workers wait for control. Instead workers say from time to time «I hold nothing»: quiescent
// state based reclamation, as in DPDK's rte_rcu_qsbr, where each worker writes only a line of its
// own.
//
// Who is quiescent when:
//   * A worker that is online may hold what it has loaded until it next says Quiescent. It does so
//     once a round, after its bursts.
//   * A worker that is offline holds nothing. It goes offline before it sleeps and loads the
//     pointer anew after it is online again. Each worker starts and ends offline.
//
// Publish swaps the pointer and then takes a token, a number that grows. The Snapshot that was
// swapped out is free once every online worker has said Quiescent since the token was taken: a load
// after that can only find the new pointer. Nobody waits for that: Publish and Reclaim look at the
// workers' lines, release what is free, and keep the rest for the next time. So a worker that
// is held up (by a debugger, by the kernel) costs memory, never the control thread's time.
//
// Thread contract: Publish and Reclaim by the control thread; each Reader by its worker's thread.
// The Publisher outlives its Readers' use; when it is destroyed all of them are offline.
#ifndef GUIDEWAY_DATAPLANE_IO_PUBLISHER_H_
#define GUIDEWAY_DATAPLANE_IO_PUBLISHER_H_

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>

#include "maglev/snapshot.h"

struct rte_rcu_qsbr;

namespace guideway {

class Publisher {
 public:
  // One worker's end. Small, to be copied into the worker.
  class Reader {
   public:
    // Online: what Load returns stays valid until the next Quiescent or Offline.
    void Online();
    void Offline();
    void Quiescent();
    // Null before the first Publish.
    const Snapshot* Load() const { return publisher_->current_.load(std::memory_order_acquire); }

   private:
    friend class Publisher;
    Reader(Publisher* publisher, uint32_t index) : publisher_(publisher), index_(index) {}

    Publisher* publisher_;
    uint32_t index_;
  };

  explicit Publisher(uint32_t readers);
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  Reader reader(uint32_t index);

  // Not null. Versions grow.
  void Publish(std::shared_ptr<const Snapshot> snapshot);
  // Releases what no worker holds. Returns how many old Snapshots are still kept.
  size_t Reclaim();

 private:
  struct Retired {
    uint64_t token;
    std::shared_ptr<const Snapshot> snapshot;
  };
  struct Free {
    void operator()(rte_rcu_qsbr* p) const { std::free(p); }
  };

  const uint32_t readers_;
  const std::unique_ptr<rte_rcu_qsbr, Free> qsbr_;
  // Loaded by workers for each burst, written when there is something new; its line is its own.
  alignas(64) std::atomic<const Snapshot*> current_ = nullptr;
  // The control thread's.
  alignas(64) std::shared_ptr<const Snapshot> owner_;  // of current_
  std::deque<Retired> retired_;                        // oldest first
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_IO_PUBLISHER_H_
