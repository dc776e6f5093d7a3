#include "dataplane/io/publisher.h"

#include <glog/logging.h>
#include <rte_rcu_qsbr.h>

#include <utility>

namespace guideway {
namespace {

rte_rcu_qsbr* NewQsbr(uint32_t readers) {
  const size_t size = rte_rcu_qsbr_get_memsize(readers);
  void* memory = std::aligned_alloc(RTE_CACHE_LINE_SIZE, size);
  CHECK(memory != nullptr);
  auto* qsbr = static_cast<rte_rcu_qsbr*>(memory);
  CHECK_EQ(rte_rcu_qsbr_init(qsbr, readers), 0);
  for (uint32_t i = 0; i < readers; ++i) CHECK_EQ(rte_rcu_qsbr_thread_register(qsbr, i), 0);
  return qsbr;
}

}  // namespace

void Publisher::Reader::Online() { rte_rcu_qsbr_thread_online(publisher_->qsbr_.get(), index_); }

void Publisher::Reader::Offline() { rte_rcu_qsbr_thread_offline(publisher_->qsbr_.get(), index_); }

void Publisher::Reader::Quiescent() { rte_rcu_qsbr_quiescent(publisher_->qsbr_.get(), index_); }

Publisher::Publisher(uint32_t readers) : readers_(readers), qsbr_(NewQsbr(readers)) {}

Publisher::~Publisher() { CHECK_EQ(Reclaim(), 0u) << "a worker still reads Snapshots"; }

Publisher::Reader Publisher::reader(uint32_t index) {
  CHECK_LT(index, readers_);
  return Reader(this, index);
}

void Publisher::Publish(std::shared_ptr<const Snapshot> snapshot) {
  CHECK(snapshot != nullptr);
  CHECK(owner_ == nullptr || owner_->version() < snapshot->version());
  // Sequentially consistent, so that the store is not delayed past the token.
  current_.store(snapshot.get(), std::memory_order_seq_cst);
  std::shared_ptr<const Snapshot> old = std::exchange(owner_, std::move(snapshot));
  if (old != nullptr) retired_.push_back({rte_rcu_qsbr_start(qsbr_.get()), std::move(old)});
  Reclaim();
}

size_t Publisher::Reclaim() {
  while (!retired_.empty() && rte_rcu_qsbr_check(qsbr_.get(), retired_.front().token, false)) {
    retired_.pop_front();
  }
  return retired_.size();
}

}  // namespace guideway
