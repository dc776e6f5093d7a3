// Memory for the large arrays that packets are looked up in: zeroed and page-aligned.
//
// They are read at random, so they should be in huge pages: one TLB entry for 2 MiB instead of 4
// KiB. Where none are free, or none may be taken, the kernel is asked for transparent ones; either
// way they are there from the start, and no packet waits for a page. Counters are reserved for the
// largest configuration and cost memory only where they are touched, or were asked for.
#ifndef GUIDEWAY_MAGLEV_PAGES_H_
#define GUIDEWAY_MAGLEV_PAGES_H_

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

namespace guideway {

enum class PageSize {
  kLazy,             // given when they are first touched, or by Populate
  kTransparentHuge,  // huge if the kernel makes them so by itself, all now; if less, of the heap
  kHuge,             // from the kernel's reserved pool; if that has too few, kTransparentHuge
};

// `count` zeroed Ts. T is one that is valid as zero bytes and needs no destructor. Throws
// std::bad_alloc if the kernel gives no memory. Movable.
template <typename T>
class PageArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  PageArray(size_t count, PageSize page_size) : count_(count) {
    bytes_ = (count * sizeof(T) + kHugePage - 1) / kHugePage * kHugePage;
    if (bytes_ == 0) return;
    // To give a mapping back interrupts every core of the process: not for a few pages.
    if (page_size == PageSize::kTransparentHuge && count * sizeof(T) <= kHugePage / 2) {
      data_ = ::operator new(count * sizeof(T), std::align_val_t(kSmallPage));
      std::memset(data_, 0, count * sizeof(T));
      is_of_heap_ = true;
      return;
    }
    if (page_size == PageSize::kHuge && Map(MAP_HUGETLB | MAP_HUGE_2MB | MAP_POPULATE)) {
      is_huge_ = true;
      return;
    }
    if (!Map(page_size == PageSize::kLazy ? MAP_NORESERVE : 0)) throw std::bad_alloc();
    if (page_size == PageSize::kLazy) return;
    // If the kernel cannot (before Linux 5.14), they come when they are touched.
    if (!Populate(count) && errno != EINVAL) {
      munmap(data_, bytes_);
      throw std::bad_alloc();
    }
  }
  PageArray(PageArray&& other) noexcept
      : data_(std::exchange(other.data_, MAP_FAILED)),
        bytes_(other.bytes_),
        count_(std::exchange(other.count_, 0)),
        is_huge_(other.is_huge_),
        is_of_heap_(other.is_of_heap_) {}
  PageArray& operator=(PageArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(count_, other.count_);
    std::swap(is_huge_, other.is_huge_);
    std::swap(is_of_heap_, other.is_of_heap_);
    return *this;
  }
  ~PageArray() {
    if (data_ == MAP_FAILED) return;
    if (is_of_heap_) {
      ::operator delete(data_, std::align_val_t(kSmallPage));
    } else {
      munmap(data_, bytes_);
    }
  }

  T& operator[](size_t i) { return static_cast<T*>(data_)[i]; }
  const T& operator[](size_t i) const { return static_cast<const T*>(data_)[i]; }
  size_t size() const { return count_; }
  // Takes the pages of the first `count` now, huge ones if they are many. False if the kernel has
  // no memory for them.
  bool Populate(size_t count) {
    const size_t bytes = (count * sizeof(T) + kSmallPage - 1) / kSmallPage * kSmallPage;
    if (bytes == 0) return true;
    if (bytes > kHugePage / 2) madvise(data_, bytes_, MADV_HUGEPAGE);
    return madvise(data_, bytes, MADV_POPULATE_WRITE) == 0;
  }
  // Whether the memory is in huge pages of the kernel's pool.
  bool is_huge() const { return is_huge_; }

 private:
  static constexpr size_t kSmallPage = size_t{4} << 10;
  static constexpr size_t kHugePage = size_t{2} << 20;

  bool Map(int flags) {
    const auto map = [&](size_t bytes) {
      return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
                  0);
    };
    if ((flags & MAP_HUGETLB) != 0) {
      data_ = map(bytes_);
      return data_ != MAP_FAILED;
    }
    // Only what is aligned can be in huge pages, and not every kernel aligns it.
    auto* start = static_cast<uint8_t*>(map(bytes_ + kHugePage));
    if (start == MAP_FAILED) return false;
    const size_t before = -reinterpret_cast<uintptr_t>(start) % kHugePage;
    if (before != 0) munmap(start, before);
    munmap(start + before + bytes_, kHugePage - before);
    data_ = start + before;
    return true;
  }

  void* data_ = MAP_FAILED;
  size_t bytes_ = 0;
  size_t count_;
  bool is_huge_ = false;
  bool is_of_heap_ = false;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_PAGES_H_
