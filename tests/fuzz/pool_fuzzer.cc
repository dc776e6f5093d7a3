// Any bytes as a pool, a table size, a seed and a sequence of shares: what lookup_table.h promises
// must hold for each.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "maglev/lookup_table.h"
#include "tests/fuzz/check.h"
#include "tests/support/plain_maglev.h"

namespace guideway {
namespace {

using Member = LookupTable::Member;
constexpr Member kNoMember = LookupTable::kNoMember;

// A table that is larger takes too long: whatever depends on size does so around 512 slots.
constexpr uint32_t kLargestBuilt = 2111;

uint32_t ConsumeSize(FuzzedDataProvider& data) {
  constexpr uint32_t kSizes[] = {2, 3, 7, 13, 31, 37, 67, 127, 509, 521, 1021};
  const uint32_t any = data.ConsumeBool() ? data.ConsumeIntegral<uint32_t>()
                                          : data.ConsumeIntegral<uint16_t>() % kLargestBuilt;
  if (data.ConsumeBool() || (any > kLargestBuilt && any <= LookupTable::kMaxSize)) {
    return kSizes[any % std::size(kSizes)];
  }
  return any;
}

std::vector<PoolMember> ConsumePool(FuzzedDataProvider& data) {
  std::vector<PoolMember> pool(data.ConsumeIntegralInRange<size_t>(0, 150));
  for (size_t i = 0; i < pool.size(); ++i) {
    const uint8_t kind = data.ConsumeIntegral<uint8_t>();
    pool[i].name = kind & 1 ? data.ConsumeRandomLengthString(3) : std::to_string(i);
    switch (kind >> 1 & 7) {
      case 0: pool[i].weight = data.ConsumeIntegral<uint32_t>(); break;
      case 1: pool[i].weight = data.ConsumeIntegral<uint16_t>(); break;
      case 2: pool[i].weight = kind >> 4; break;
      case 3: pool[i].weight = 65535; break;
      default: pool[i].weight = 100;
    }
  }
  return pool;
}

// The rules of the header, in its words.
bool IsValid(const std::vector<PoolMember>& pool, uint32_t size) {
  if (size < 2 || size > LookupTable::kMaxSize) return false;
  for (uint64_t d = 2; d * d <= size; ++d) {
    if (size % d == 0) return false;
  }
  std::set<std::string> names;
  for (const PoolMember& m : pool) {
    if (m.weight > LookupTable::kMaxWeight || !names.insert(m.name).second) return false;
  }
  return pool.size() <= size && pool.size() <= LookupTable::kMaxMembers;
}

void CheckProportion(const std::vector<PoolMember>& pool, absl::Span<const Member> homes) {
  uint64_t sum = 0;
  for (const PoolMember& m : pool) sum += m.weight;
  std::vector<uint64_t> counts(pool.size());
  for (Member m : homes) {
    CHECK_THAT(sum == 0 ? m == kNoMember : m < pool.size());
    if (sum != 0) ++counts[m];
  }
  for (size_t i = 0; sum != 0 && i < pool.size(); ++i) {
    const uint64_t exact = homes.size() * pool[i].weight;
    CHECK_THAT(counts[i] >= exact / sum && counts[i] <= (exact + sum - 1) / sum);
  }
}

// What one table does over a sequence of shares, and the same pool's in another order.
class Sequence {
 public:
  Sequence(std::vector<PoolMember> pool, uint32_t size, uint64_t seed)
      : pool_(std::move(pool)),
        table_(LookupTable::Build(pool_, size, seed).value()),
        other_order_(pool_.size()),
        shares_(pool_.size(), kFullShare) {
    CheckProportion(pool_, table_.homes());
    std::iota(other_order_.begin(), other_order_.end(), size_t{0});
    // A fixed shuffle: by the names read backward.
    std::sort(other_order_.begin(), other_order_.end(), [&](size_t a, size_t b) {
      return std::lexicographical_compare(pool_[b].name.rbegin(), pool_[b].name.rend(),
                                          pool_[a].name.rbegin(), pool_[a].name.rend());
    });
    std::vector<PoolMember> other_pool;
    for (size_t i : other_order_) other_pool.push_back(pool_[i]);
    other_ = std::make_unique<LookupTable>(LookupTable::Build(other_pool, size, seed).value());
    // The restatement is slow; small tables have every case but the homes' batches.
    if (size <= 127) plain_ = std::make_unique<testing::PlainTable>(pool_, size, seed);
    now_ = Assigned(shares_);
    CHECK_THAT(std::equal(now_.begin(), now_.end(), table_.homes().begin()));
    if (plain_ != nullptr) CHECK_THAT(now_ == plain_->homes());
  }

  void Step(const std::vector<Share>& shares) {
    const std::vector<Member> next = Assigned(shares);
    const bool was_up = IsUp(shares_), is_up = IsUp(shares);
    for (size_t slot = 0; slot < next.size(); ++slot) {
      const Member from = now_[slot], to = next[slot];
      CHECK_THAT((to == kNoMember) == !is_up);
      if (!is_up) continue;
      CHECK_THAT(to < pool_.size() && shares[to] != kDown && pool_[to].weight > 0);
      if (!was_up || from == to) continue;
      CHECK_THAT(shares[from] < shares_[from] || shares[to] > shares_[to]);
    }
    now_ = next;
    shares_ = shares;
  }

  const std::vector<Share>& shares() const { return shares_; }

 private:
  bool IsUp(const std::vector<Share>& shares) const {
    return std::any_of(table_.homes().begin(), table_.homes().end(),
                       [&](Member m) { return m != kNoMember && shares[m] != kDown; });
  }

  std::vector<Member> Assigned(const std::vector<Share>& shares) const {
    std::vector<Member> result = *table_.Assign(shares);
    CHECK_THAT(result.size() == table_.size());
    std::vector<Share> other_shares;
    for (size_t i : other_order_) other_shares.push_back(shares[i]);
    const std::vector<Member> other = *other_->Assign(other_shares);
    for (size_t slot = 0; slot < result.size(); ++slot) {
      const Member m = other[slot] == kNoMember ? kNoMember : other_order_[other[slot]];
      CHECK_THAT(result[slot] == m);
    }
    if (plain_ != nullptr) CHECK_THAT(result == plain_->Assign(shares));
    return result;
  }

  const std::vector<PoolMember> pool_;
  const LookupTable table_;
  std::vector<size_t> other_order_;
  std::unique_ptr<LookupTable> other_;
  std::unique_ptr<testing::PlainTable> plain_;
  std::vector<Share> shares_;
  std::vector<Member> now_;
};

void Run(FuzzedDataProvider data) {
  const uint32_t size = ConsumeSize(data);
  const uint64_t seed = data.ConsumeIntegral<uint64_t>();
  std::vector<PoolMember> pool = ConsumePool(data);
  if (!IsValid(pool, size)) {
    const absl::Status status = LookupTable::Build(pool, size, seed).status();
    CHECK_THAT(status.code() == absl::StatusCode::kInvalidArgument && !status.message().empty());
    return;
  }
  Sequence sequence(std::move(pool), size, seed);
  const size_t n = sequence.shares().size();
  for (int step = 0; n > 0 && step < 12 && data.remaining_bytes() > 0; ++step) {
    std::vector<Share> shares = sequence.shares();
    const uint8_t kind = data.ConsumeIntegral<uint8_t>();
    if (kind % 4 == 0) shares.assign(n, data.ConsumeIntegral<uint8_t>() % 11);
    for (int changes = kind / 4 % 16; changes > 0; --changes) {
      Share& share = shares[data.ConsumeIntegral<uint8_t>() % n];
      share = data.ConsumeIntegral<uint8_t>() % 11;
    }
    sequence.Step(shares);
  }
  sequence.Step(std::vector<Share>(n, kFullShare));
}

}  // namespace
}  // namespace guideway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  guideway::Run(FuzzedDataProvider(bytes, size));
  return 0;
}
