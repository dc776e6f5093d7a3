#include "maglev/lookup_table.h"

#include <algorithm>
#include <array>
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
//
// Whether somebody is up is as good as random, so nothing that is done for every attempt branches
// on it: a branch that goes wrong costs as much as the next two attempts.
class LookupTable::Repair {
 public:
  Repair(const LookupTable& table, absl::Span<const Share> shares, Assignment* assignment)
      : table_(table),
        homes_(table.homes().data()),
        size_(table.size()),
        seed_(table.seed_),
        shares_(shares.data()),
        assignment_(assignment->data()),
        had_(table.places_.size()) {}

  // Finds somebody for each slot of `home` that `home` does not take itself. At least two that have
  // slots are up. False if some are left to be lent from upward: they are kNoMember.
  bool SlotsOf(Member home);

  // Gives every slot that is left to who has the next slot upward.
  void LendFromUpward();

 private:
  // In a round each seeker's first attempts are made before anybody chooses, so that they wait for
  // nothing. Few need more.
  static constexpr size_t kAhead = 2;

  // A slot that looks for substitutes.
  struct Seeker {
    uint32_t slot;
    Member any_up = kNoMember;  // of those that did not take it, the first that is up
    uint16_t attempt = 0;       // the next one; no char, whose stores might be to anything
    bool has_found = false;     // somebody who takes the slot
  };

  // Whether a member with part of its share takes the slot.
  bool Takes(Member member, uint32_t slot) const;
  void CollectSlots(Member home);
  // Who is named by an attempt.
  Member Named(uint32_t slot, uint32_t attempt) const {
    const uint32_t key[2] = {slot, attempt};
    return homes_[Scale(XXH3_64bits_withSeed(key, sizeof(key), seed_), size_)];
  }
  void SeekEvenly(Member home);
  bool SeekAlone();
  // Offers the seeker's slot to `member`, the next in its order.
  void Offer(Member member, Seeker& seeker);
  void OfferInPart(Member member, Seeker& seeker);

  const LookupTable& table_;
  const Member* const homes_;
  const uint32_t size_;
  const uint64_t seed_;
  const Share* const shares_;
  Member* const assignment_;
  std::vector<Seeker> seekers_;  // the slots of one home
  size_t unsettled_ = 0;         // seekers that have found nobody yet
  // In a round:
  std::vector<uint32_t> had_;                      // of how many each member is the substitute
  std::vector<Member> found_;                      // the substitutes
  std::vector<std::array<Member, kAhead>> ahead_;  // whom each seeker's next attempts name
};

bool LookupTable::Repair::Takes(Member member, uint32_t slot) const {
  const Permutation& p = table_.places_[member].permutation;
  const uint32_t key[3] = {slot, p.offset, p.skip};  // stands for the name
  return Scale(XXH3_64bits_withSeed(key, sizeof(key), table_.seed_), kFullShare) < shares_[member];
}

// The slots that `home` is the home of, in the order it took them: those it walked to are found by
// walking the same way once more.
void LookupTable::Repair::CollectSlots(Member home) {
  const Place& place = table_.places_[home];
  seekers_.resize(place.slots + 1);  // one for a slot that is another's
  const auto ranked = std::count_if(table_.ranked_.begin(), table_.ranked_.end(),
                                    [&](uint32_t slot) { return homes_[slot] == home; });
  const size_t walked = place.slots - static_cast<size_t>(ranked);
  uint32_t slot = place.permutation.offset;
  size_t n = 0;
  while (n < walked) {
    seekers_[n] = {.slot = slot};
    n += homes_[slot] == home;
    slot = AddModulo(slot, place.permutation.skip, size_);
  }
  for (uint32_t last : table_.ranked_) {
    seekers_[n] = {.slot = last};
    n += homes_[last] == home;
  }
  seekers_.pop_back();
}

inline void LookupTable::Repair::Offer(Member member, Seeker& seeker) {
  const Share share = shares_[member];
  if (share != kDown && share < kFullShare) [[unlikely]]
    return OfferInPart(member, seeker);
  const bool takes = (share != kDown) & !seeker.has_found;
  Member& owner = assignment_[seeker.slot];
  owner = takes ? member : owner;
  seeker.has_found |= takes;
  unsettled_ -= takes;
}

void LookupTable::Repair::OfferInPart(Member member, Seeker& seeker) {
  if (seeker.has_found) return;
  if (seeker.any_up == kNoMember) seeker.any_up = member;
  if (!Takes(member, seeker.slot)) return;
  assignment_[seeker.slot] = member;
  seeker.has_found = true;
  --unsettled_;
}

// A round in which the slots of `home` spread evenly. Whoever has found somebody takes part as long
// as others do: where they lead must not depend on who is up.
void LookupTable::Repair::SeekEvenly(Member home) {
  const uint64_t slots = table_.places_[home].slots;
  const uint64_t others = size_ - slots;
  ahead_.resize(seekers_.size());
  for (size_t i = 0; i < seekers_.size(); ++i) {
    for (size_t n = 0; n < kAhead; ++n) {
      ahead_[i][n] = Named(seekers_[i].slot, seekers_[i].attempt + static_cast<uint32_t>(n));
    }
  }
  found_.resize(seekers_.size());
  size_t found = 0;
  for (size_t i = 0; i < seekers_.size(); ++i) {
    Seeker& seeker = seekers_[i];
    for (size_t n = 0; seeker.attempt < kMaxAttempts; ++n) {
      const Member member = n < kAhead ? ahead_[i][n] : Named(seeker.slot, seeker.attempt);
      ++seeker.attempt;
      // Its share of the home's slots: slots · (its own)/others, rounded up.
      const bool has_had_its_share = had_[member] * others >= slots * table_.places_[member].slots;
      if (has_had_its_share | (member == home)) continue;
      ++had_[member];
      found_[found++] = member;
      Offer(member, seeker);
      break;
    }
  }
  for (size_t i = 0; i < found; ++i) had_[found_[i]] = 0;
}

// Each seeker by itself, for as many attempts as it has left; all of them try once, then those that
// are left try again. (To offer a slot to its home once more changes nothing.) False if some that
// are out of attempts have met nobody who is up.
bool LookupTable::Repair::SeekAlone() {
  size_t left = 0;
  for (const Seeker& seeker : seekers_) {
    const bool seeks = !seeker.has_found;
    seekers_[left] = seeker;
    left += seeks;
  }
  bool all_settled = true;
  while (left > 0) {
    size_t kept = 0;
    for (size_t i = 0; i < left; ++i) {
      Seeker seeker = seekers_[i];
      if (seeker.attempt == kMaxAttempts) [[unlikely]] {
        assignment_[seeker.slot] = seeker.any_up;
        all_settled &= seeker.any_up != kNoMember;
        continue;
      }
      Offer(Named(seeker.slot, seeker.attempt++), seeker);
      seekers_[kept] = seeker;
      kept += !seeker.has_found;
    }
    left = kept;
  }
  return all_settled;
}

bool LookupTable::Repair::SlotsOf(Member home) {
  CollectSlots(home);
  unsettled_ = seekers_.size();
  for (Seeker& seeker : seekers_) Offer(home, seeker);
  for (int round = 0; round < kEvenRounds && unsettled_ > 0; ++round) SeekEvenly(home);
  return SeekAlone();
}

void LookupTable::Repair::LendFromUpward() {
  // The slot's home, not who has the slot now: that may be on loan itself.
  const auto is_up = [&](uint32_t slot) { return shares_[homes_[slot]] != kDown; };
  // From the last slot down, so that the next one upward is always at hand; above the last comes
  // the lowest again.
  uint32_t upward = 0;
  while (!is_up(upward)) ++upward;
  for (uint32_t slot = size_; slot-- > 0;) {
    if (is_up(slot)) upward = slot;
    if (assignment_[slot] == kNoMember) assignment_[slot] = homes_[upward];
  }
}

std::shared_ptr<const LookupTable::Assignment> LookupTable::Assign(
    absl::Span<const Share> shares) const {
  std::vector<Member> in_part;  // homes that do not take all of their slots
  uint32_t up = 0;
  Member last_up = kNoMember;
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].slots == 0) continue;
    if (shares[i] < kFullShare) in_part.push_back(static_cast<Member>(i));
    if (shares[i] == kDown) continue;
    ++up;
    last_up = static_cast<Member>(i);
  }
  if (in_part.empty()) return homes_;
  if (up <= 1) return std::make_shared<const Assignment>(size(), last_up);

  auto assignment = std::make_shared<Assignment>(*homes_);
  Repair repair(*this, shares, assignment.get());
  bool all_settled = true;
  for (Member home : in_part) all_settled &= repair.SlotsOf(home);
  if (!all_settled) repair.LendFromUpward();
  return assignment;
}

}  // namespace guideway
