#include "maglev/lookup_table.h"

#include <algorithm>
#include <numeric>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "maglev/turns.h"

namespace guideway {
namespace {

// Attempts to find substitutes for a slot: so many that few slots need more even where nine of ten
// backends are down.
constexpr uint32_t kMaxAttempts = 64;

// Rounds in which the slots of one home spread evenly. More change nothing that can be measured,
// since few slots get so far, but every slot of the home takes part in them.
constexpr int kEvenRounds = 2;

// Maps 64 random bits to 0 … n-1.
uint32_t Scale(uint64_t hash, uint32_t n) {
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * n) >> 64);
}

// The pool's indices in the order of the names. An error if two are equal.
absl::StatusOr<std::vector<uint16_t>> OrderByName(absl::Span<const PoolMember> pool) {
  std::vector<uint16_t> order(pool.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  const auto ascending = [&](uint16_t a, uint16_t b) { return pool[a].name < pool[b].name; };
  const auto not_ascending = [&](uint16_t a, uint16_t b) { return !ascending(a, b); };
  if (std::adjacent_find(order.begin(), order.end(), not_ascending) == order.end()) return order;

  std::sort(order.begin(), order.end(), ascending);
  const auto twice = std::adjacent_find(order.begin(), order.end(), not_ascending);
  if (twice == order.end()) return order;
  return absl::InvalidArgumentError(absl::StrCat("two backends are named ", pool[*twice].name));
}

absl::Status Validate(absl::Span<const PoolMember> pool, uint32_t size) {
  if (!IsPrime(size) || size > LookupTable::kMaxSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("table size ", size, " is not a prime up to ", LookupTable::kMaxSize));
  }
  if (pool.size() > LookupTable::kMaxMembers) {
    return absl::InvalidArgumentError(absl::StrCat(pool.size(), " backends are more than the ",
                                                   LookupTable::kMaxMembers, " of a pool"));
  }
  if (pool.size() > size) {
    return absl::InvalidArgumentError(
        absl::StrCat("table size ", size, " is less than the ", pool.size(), " backends"));
  }
  for (const PoolMember& member : pool) {
    if (member.weight <= LookupTable::kMaxWeight) continue;
    return absl::InvalidArgumentError(absl::StrCat("weight ", member.weight, " of ", member.name,
                                                   " is over ", LookupTable::kMaxWeight));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsPrime(uint32_t n) {
  if (n < 2) return false;
  for (uint32_t d = 2; uint64_t{d} * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return true;
}

uint32_t NextPrime(uint32_t n) {
  while (!IsPrime(n)) ++n;
  return n;
}

absl::StatusOr<LookupTable> LookupTable::Build(absl::Span<const PoolMember> pool, uint32_t size,
                                               uint64_t seed) {
  if (absl::Status status = Validate(pool, size); !status.ok()) return status;
  // By name, so that the order of the pool does not matter.
  const absl::StatusOr<std::vector<uint16_t>> by_name = OrderByName(pool);
  if (!by_name.ok()) return by_name.status();

  std::vector<uint32_t> weights;
  std::vector<Permutation> permutations;
  weights.reserve(pool.size());
  permutations.reserve(pool.size());
  for (uint16_t i : *by_name) {
    const std::string& name = pool[i].name;
    const XXH128_hash_t h = XXH3_128bits_withSeed(name.data(), name.size(), seed);
    weights.push_back(pool[i].weight);
    permutations.push_back({Scale(h.low64, size), 1 + Scale(h.high64, size - 1)});
  }
  const std::vector<uint32_t> quotas = Apportion(weights, size);
  const std::vector<uint16_t> turns = TakeTurns(quotas);
  if (turns.empty()) return LookupTable(Assignment(size, kNoMember), seed);

  std::vector<Place> places(pool.size());
  for (size_t i = 0; i < pool.size(); ++i) places[(*by_name)[i]] = {permutations[i], quotas[i]};

  Homes homes = TakeHomes(std::move(permutations), turns);
  if (!std::is_sorted(by_name->begin(), by_name->end())) {
    for (Member& owner : homes.owners) owner = (*by_name)[owner];
  }
  LookupTable table(std::move(homes.owners), seed);
  table.ranked_ = std::move(homes.ranked);
  table.places_ = std::move(places);
  return table;
}

// One Assign: repairs the slots of homes that do not take all of them.
class LookupTable::Repair {
 public:
  // `up`: how many that have slots take any.
  Repair(const LookupTable& table, absl::Span<const Share> shares, uint32_t up,
         Assignment* assignment)
      : table_(table),
        shares_(shares),
        up_(up),
        assignment_(*assignment),
        had_(table.places_.size()) {}

  // Finds somebody for each slot of `home` that `home` does not take itself. False if some are
  // left to be lent from upward: they are kNoMember.
  bool SlotsOf(Member home);

  // Gives every slot that is left to who has the next slot upward.
  void LendFromUpward();

 private:
  // A slot that looks for substitutes.
  struct Seeker {
    uint32_t slot;
    uint8_t attempt = 0;            // the next one
    bool has_found = false;         // somebody who takes the slot
    Member any_up = kNoMember;      // the first in its order that is up, whatever its share
    Member substitute = kNoMember;  // of this round
  };

  bool Takes(Member member, uint32_t slot) const;
  void CollectSlots(Member home);
  // The next of the seeker's attempts that is not its home and, if `evenly`, not one that has had
  // its share in this round; kNoMember if it is out of attempts.
  Member NextSubstitute(Member home, Seeker& seeker, bool evenly);
  void SeekSubstitutes(Member home);
  // Offers the seeker's slot to `member`, the next in its order.
  void Offer(Member member, Seeker& seeker);

  const LookupTable& table_;
  const absl::Span<const Share> shares_;
  const uint32_t up_;
  Assignment& assignment_;
  std::vector<Seeker> seekers_;  // the slots of one home
  size_t unsettled_ = 0;         // seekers that have found nobody yet
  std::vector<uint32_t> had_;    // how many of them each member is the substitute of in this round
};

bool LookupTable::Repair::Takes(Member member, uint32_t slot) const {
  const Share share = shares_[member];
  if (share == kDown || share >= kFullShare) return share != kDown;
  const Permutation& p = table_.places_[member].permutation;
  const uint32_t key[3] = {slot, p.offset, p.skip};  // stands for the name
  return Scale(XXH3_64bits_withSeed(key, sizeof(key), table_.seed_), kFullShare) < share;
}

// The slots that `home` is the home of, in the order it took them: those it walked to are found by
// walking the same way once more.
void LookupTable::Repair::CollectSlots(Member home) {
  const Place& place = table_.places_[home];
  std::vector<uint32_t> ranked;
  for (uint32_t slot : table_.ranked_) {
    if (table_.homes()[slot] == home) ranked.push_back(slot);
  }
  seekers_.clear();
  const size_t walked = place.slots - ranked.size();
  const uint32_t size = table_.size();
  uint32_t slot = place.permutation.offset;
  while (seekers_.size() < walked) {
    if (table_.homes()[slot] == home) seekers_.push_back({.slot = slot});
    slot = AddModulo(slot, place.permutation.skip, size);
  }
  for (uint32_t found : ranked) seekers_.push_back({.slot = found});
}

LookupTable::Member LookupTable::Repair::NextSubstitute(Member home, Seeker& seeker, bool evenly) {
  const uint64_t slots = table_.places_[home].slots;
  const uint64_t others = table_.size() - slots;
  while (seeker.attempt < kMaxAttempts) {
    const uint32_t key[2] = {seeker.slot, seeker.attempt++};
    const uint64_t hash = XXH3_64bits_withSeed(key, sizeof(key), table_.seed_);
    const Member member = table_.homes()[Scale(hash, table_.size())];
    if (member == home) continue;
    // Its share of the home's slots: slots · (its own)/others, rounded up.
    const bool has_had_its_share = had_[member] * others >= slots * table_.places_[member].slots;
    if (!evenly || !has_had_its_share) return member;
  }
  return kNoMember;
}

void LookupTable::Repair::Offer(Member member, Seeker& seeker) {
  if (seeker.has_found || shares_[member] == kDown) return;
  if (seeker.any_up == kNoMember) seeker.any_up = member;
  if (!Takes(member, seeker.slot)) return;
  assignment_[seeker.slot] = member;
  seeker.has_found = true;
  --unsettled_;
}

// Whoever has found somebody takes part in the rounds as long as others do: where they lead must
// not depend on who is up.
void LookupTable::Repair::SeekSubstitutes(Member home) {
  for (int round = 0; round < kEvenRounds && unsettled_ > 0; ++round) {
    for (Seeker& seeker : seekers_) {
      seeker.substitute = NextSubstitute(home, seeker, /*evenly=*/true);
      if (seeker.substitute == kNoMember) continue;
      ++had_[seeker.substitute];
      Offer(seeker.substitute, seeker);
    }
    for (const Seeker& seeker : seekers_) {
      if (seeker.substitute != kNoMember) had_[seeker.substitute] = 0;
    }
  }
  for (Seeker& seeker : seekers_) {
    while (!seeker.has_found && seeker.attempt < kMaxAttempts) {
      const Member next = NextSubstitute(home, seeker, /*evenly=*/false);
      if (next != kNoMember) Offer(next, seeker);
    }
  }
}

bool LookupTable::Repair::SlotsOf(Member home) {
  CollectSlots(home);
  unsettled_ = seekers_.size();
  for (Seeker& seeker : seekers_) Offer(home, seeker);
  const bool others_are_up = up_ > (shares_[home] != kDown);
  if (others_are_up) SeekSubstitutes(home);

  bool all_settled = true;
  for (const Seeker& seeker : seekers_) {
    if (seeker.has_found) continue;
    assignment_[seeker.slot] = seeker.any_up;
    all_settled &= seeker.any_up != kNoMember;
  }
  return all_settled;
}

void LookupTable::Repair::LendFromUpward() {
  // The slot's home, not who has the slot now: that may be on loan itself.
  const auto is_up = [&](uint32_t slot) { return shares_[table_.homes()[slot]] != kDown; };
  // From the last slot down, so that the next one upward is always at hand; above the last comes
  // the lowest again.
  const uint32_t size = table_.size();
  uint32_t upward = 0;
  while (!is_up(upward)) ++upward;
  for (uint32_t slot = size; slot-- > 0;) {
    if (is_up(slot)) upward = slot;
    if (assignment_[slot] == kNoMember) assignment_[slot] = table_.homes()[upward];
  }
}

std::shared_ptr<const LookupTable::Assignment> LookupTable::Assign(
    absl::Span<const Share> shares) const {
  std::vector<Member> in_part;  // homes that do not take all of their slots
  uint32_t up = 0;
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].slots == 0) continue;
    if (shares[i] < kFullShare) in_part.push_back(static_cast<Member>(i));
    up += shares[i] != kDown;
  }
  if (in_part.empty()) return homes_;
  if (up == 0) return std::make_shared<const Assignment>(size(), kNoMember);

  auto assignment = std::make_shared<Assignment>(*homes_);
  Repair repair(*this, shares, up, assignment.get());
  bool all_settled = true;
  for (Member home : in_part) all_settled &= repair.SlotsOf(home);
  if (!all_settled) repair.LendFromUpward();
  return assignment;
}

}  // namespace guideway
