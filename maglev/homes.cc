#include "maglev/homes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define GUIDEWAY_AVX2 __attribute__((target("avx2")))
#else
#define GUIDEWAY_AVX2
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace guideway {
namespace {

// Turns that look for their slots side by side: never more than a part of the free slots, so that
// two seldom find the same one.
constexpr uint32_t kMostTurnsAtOnce = 64;
constexpr uint32_t kFreeSlotsPerTurn = 8;

class FreeSlots {
 public:
  explicit FreeSlots(uint32_t size) : words_((size + 31) / 32, ~0u) {
    if (size % 32 != 0) words_.back() = (1u << size % 32) - 1;
  }

  bool Contains(uint32_t slot) const { return words_[slot / 32] >> slot % 32 & 1; }
  void Take(uint32_t slot) { words_[slot / 32] &= ~(1u << slot % 32); }
  const uint32_t* words() const { return words_.data(); }

  std::vector<uint32_t> List() const {
    std::vector<uint32_t> slots;
    for (size_t i = 0; i < words_.size(); ++i) {
      for (uint32_t word = words_[i]; word != 0; word &= word - 1) {
        slots.push_back(static_cast<uint32_t>(32 * i) + std::countr_zero(word));
      }
    }
    return slots;
  }

 private:
  std::vector<uint32_t> words_;
};

// skip⁻¹/size as a fraction of 2^64, rounded up: times a distance, modulo 2^64, it is the distance
// in steps, as a fraction of the table. Steps are 2^64/size > 2^35 apart and the rounding errs by
// less than the distance, so fractions compare as their numbers of steps do.
uint64_t StepsPerSlot(uint32_t skip, uint32_t size) {
  // Extended Euclid: inverse·skip ≡ remainder (mod size) all along.
  int32_t inverse = 0, next_inverse = 1;
  uint32_t remainder = size, next_remainder = skip;
  while (next_remainder != 0) {
    const uint32_t quotient = remainder / next_remainder;
    inverse = std::exchange(next_inverse, inverse - static_cast<int32_t>(quotient) * next_inverse);
    remainder = std::exchange(next_remainder, remainder - quotient * next_remainder);
  }
  // Digit by digit, of 32 bits: a division of 128 bits takes longer.
  const uint64_t high = static_cast<uint64_t>(inverse < 0 ? inverse + size : inverse) << 32;
  const uint64_t low = high % size << 32;
  return (high / size << 32 | low / size) + 1;
}

class HomeTaker {
 public:
  HomeTaker(std::vector<Permutation> permutations, absl::Span<const uint16_t> turns)
      : turns_(turns),
        size_(static_cast<uint32_t>(turns.size())),
        walkers_(std::move(permutations)),
        free_(size_) {
    homes_.owners.resize(size_);
  }

  Homes Run(bool side_by_side) {
    const uint32_t ranked = std::min(size_, static_cast<uint32_t>(std::sqrt(size_)));
    if (side_by_side && size_ > kMostTurnsAtOnce * kFreeSlotsPerTurn) {
      WalkSideBySide(size_ - ranked);
    } else {
      Walk(size_ - ranked);
    }
    Rank();
    return std::move(homes_);
  }

 private:
  void Take(uint32_t slot, uint16_t owner) {
    free_.Take(slot);
    homes_.owners[slot] = owner;
  }

  // Turns up to `end`, one after the other, one probe after the other.
  void Walk(uint32_t end) {
    for (; turn_ < end; ++turn_) {
      Permutation& walker = walkers_[turns_[turn_]];
      while (!free_.Contains(walker.offset)) {
        walker.offset = AddModulo(walker.offset, walker.skip, size_);
      }
      Take(walker.offset, turns_[turn_]);
    }
  }

  // The same, many turns at once.
  GUIDEWAY_AVX2 void WalkSideBySide(uint32_t end);
  void Rank();

  const absl::Span<const uint16_t> turns_;
  const uint32_t size_;
  // What is left of each permutation: `offset` is the next slot, all before it are taken.
  std::vector<Permutation> walkers_;
  FreeSlots free_;
  Homes homes_;
  uint32_t turn_ = 0;
};

#if defined(__x86_64__)

bool HasVectors() { return __builtin_cpu_supports("avx2"); }

GUIDEWAY_AVX2 void HomeTaker::WalkSideBySide(uint32_t end) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i size1 = _mm256_set1_epi32(static_cast<int>(size_));
  const __m256i size2 = _mm256_set1_epi32(static_cast<int>(2 * size_));
  const __m256i size4 = _mm256_set1_epi32(static_cast<int>(4 * size_));
  const __m256i low5 = _mm256_set1_epi32(31);
  const int* words = reinterpret_cast<const int*>(free_.words());
  const uint32_t size = size_;

  // Looks at the walker's next eight slots. Leaves it at the first that is free, or behind them
  // all and returns true.
  const auto misses = [=](Permutation & walker) __attribute__((target("avx2"), always_inline)) {
    // slot + lane·skip, less than 8·size, modulo size, as in AddModulo.
    __m256i slots = _mm256_mullo_epi32(_mm256_set1_epi32(static_cast<int>(walker.skip)), lanes);
    slots = _mm256_add_epi32(slots, _mm256_set1_epi32(static_cast<int>(walker.offset)));
    slots = _mm256_min_epu32(slots, _mm256_sub_epi32(slots, size4));
    slots = _mm256_min_epu32(slots, _mm256_sub_epi32(slots, size2));
    slots = _mm256_min_epu32(slots, _mm256_sub_epi32(slots, size1));
    // Each slot's bit, moved to its lane's sign.
    __m256i bits = _mm256_i32gather_epi32(words, _mm256_srli_epi32(slots, 5), 4);
    bits = _mm256_sllv_epi32(bits, _mm256_andnot_si256(slots, low5));
    const auto found = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(bits)));
    // The first that is free, or a step behind the last; without a branch, a coin's toss.
    const __m256i lane = _mm256_castsi128_si256(_mm_cvtsi32_si128(std::countr_zero(found | 128)));
    const auto slot =
        static_cast<uint32_t>(_mm256_cvtsi256_si32(_mm256_permutevar8x32_epi32(slots, lane)));
    const bool missed = found == 0;
    walker.offset = AddModulo(slot, walker.skip & (0u - missed), size);
    return missed;
  };

  // Of the batch's turns: whose they are, and how many of them still search.
  uint16_t searching[kMostTurnsAtOnce];
  Permutation* const walkers = walkers_.data();
  for (uint32_t turn = turn_; turn < end;) {
    // The turns of a batch, within a round, where their numbers go up: a walker that had two would
    // find one slot for both, and search for the second once more.
    const uint16_t* const batch = &turns_[turn];
    const uint32_t most =
        std::min({kMostTurnsAtOnce, end - turn, std::max(1u, (size - turn) / kFreeSlotsPerTurn)});
    uint32_t count = 1;
    while (count < most && batch[count] > batch[count - 1]) ++count;

    uint32_t left = 0;
    for (uint32_t i = 0; i < count; ++i) {
      searching[left] = batch[i];
      left += misses(walkers[batch[i]]);
    }
    while (left > 0) {
      uint32_t still = 0;
      for (uint32_t i = 0; i < left; ++i) {
        searching[still] = searching[i];
        still += misses(walkers[searching[i]]);
      }
      left = still;
    }
    for (uint32_t i = 0; i < count; ++i) {
      Permutation& walker = walkers[batch[i]];
      while (!free_.Contains(walker.offset)) misses(walker);
      Take(walker.offset, batch[i]);
    }
    turn += count;
  }
  turn_ = end;
}

#else

bool HasVectors() { return false; }

void HomeTaker::WalkSideBySide(uint32_t end) { Walk(end); }

#endif

void HomeTaker::Rank() {
  std::vector<uint32_t> free = free_.List();
  for (; turn_ < size_; ++turn_) {
    const uint16_t owner = turns_[turn_];
    const uint64_t steps = StepsPerSlot(walkers_[owner].skip, size_);
    const uint64_t from = walkers_[owner].offset;
    uint64_t nearest = UINT64_MAX;
    size_t best = 0;
    for (size_t i = 0; i < free.size(); ++i) {
      const uint64_t distance = (free[i] - from) * steps;
      if (distance <= nearest) {
        nearest = distance;
        best = i;
      }
    }
    homes_.owners[free[best]] = owner;
    homes_.ranked.push_back(free[best]);
    free[best] = free.back();
    free.pop_back();
  }
}

}  // namespace

Homes TakeHomes(std::vector<Permutation> permutations, absl::Span<const uint16_t> turns) {
  return HomeTaker(std::move(permutations), turns).Run(HasVectors());
}

Homes internal::TakeHomesPortably(std::vector<Permutation> permutations,
                                  absl::Span<const uint16_t> turns) {
  return HomeTaker(std::move(permutations), turns).Run(false);
}

}  // namespace guideway
