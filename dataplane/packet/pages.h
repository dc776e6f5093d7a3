// Memory for the large arrays of the packet path: zeroed, page-aligned, taken once at start.
//
// Flow tables are read at random, so their memory should be in huge pages: one TLB entry for 2 MiB
// instead of 4 KiB. Where none are free, or none may be taken, the kernel is asked for transparent
// ones; either way they are there from the start, and no packet waits for a page. Counters are
// reserved for the largest configuration and cost memory only where they are touched.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PAGES_H_
#define GUIDEWAY_DATAPLANE_PACKET_PAGES_H_

#include <linux/mman.h>
#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace guideway {

enum class PageSize {
  kLazy,             // ordinary pages, given when they are first touched
  kTransparentHuge,  // huge if the kernel makes them so by itself; all of them now
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
    if (page_size == PageSize::kHuge && Map(MAP_HUGETLB | MAP_HUGE_2MB | MAP_POPULATE)) {
      is_huge_ = true;
      return;
    }
    if (!Map(page_size == PageSize::kLazy ? MAP_NORESERVE : 0)) throw std::bad_alloc();
    if (page_size == PageSize::kLazy) return;
    madvise(data_, bytes_, MADV_HUGEPAGE);
    if (madvise(data_, bytes_, MADV_POPULATE_WRITE) != 0) {
      munmap(data_, bytes_);
      throw std::bad_alloc();
    }
  }
  PageArray(PageArray&& other) noexcept
      : data_(std::exchange(other.data_, MAP_FAILED)),
        bytes_(other.bytes_),
        count_(std::exchange(other.count_, 0)),
        is_huge_(other.is_huge_) {}
  PageArray& operator=(PageArray&&) = delete;
  ~PageArray() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }

  T& operator[](size_t i) { return static_cast<T*>(data_)[i]; }
  const T& operator[](size_t i) const { return static_cast<const T*>(data_)[i]; }
  size_t size() const { return count_; }
  // Whether the memory is in huge pages of the kernel's pool.
  bool is_huge() const { return is_huge_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  bool Map(int flags) {
    data_ =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return data_ != MAP_FAILED;
  }

  void* data_ = MAP_FAILED;
  size_t bytes_ = 0;
  size_t count_;
  bool is_huge_ = false;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PAGES_H_
