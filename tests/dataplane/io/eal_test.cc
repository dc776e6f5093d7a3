// What a machine may lack, on made-up machines. That EAL starts is seen in dataplane_test.
#include "dataplane/io/eal.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace guideway {
namespace {

namespace fs = std::filesystem;

class CheckMachineTest : public testing::Test {
 protected:
  CheckMachineTest() {
    char name[] = "/tmp/guideway-machine-XXXXXX";
    root_ = mkdtemp(name);
    Write("/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
    Write("/proc/mounts", "proc /proc proc rw 0 0\n");
  }
  ~CheckMachineTest() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void HugePages(const std::string& size, int reserved, int free) {
    const std::string directory = "/sys/kernel/mm/hugepages/hugepages-" + size;
    Write(directory + "/nr_hugepages", std::to_string(reserved) + "\n");
    Write(directory + "/free_hugepages", std::to_string(free) + "\n");
  }
  std::string Device(const std::string& device) {
    return std::string(CheckMachine({.devices = {device}, .hugepages = false}, root_).message());
  }
  std::string Memory(uint64_t mib, uint64_t tables_mib = 0) {
    return std::string(
        CheckMachine({.memory_bytes = mib << 20, .table_bytes = tables_mib << 20}, root_)
            .message());
  }

  std::string root_;
};

#define EXPECT_SAYS(text, part) EXPECT_PRED_FORMAT2(testing::IsSubstring, part, text)

TEST_F(CheckMachineTest, Tap) {
  EXPECT_SAYS(Device("net_tap0,iface=gw0"), "modprobe tun");
  Write("/dev/net/tun", "");
  EXPECT_EQ(Device("net_tap0,iface=gw0"), "");
  EXPECT_EQ(Device("net_tap0"), "");
  EXPECT_SAYS(Device("net_tap0,iface=a-name-of-17-bytes"), "15 characters");
  Write("/sys/class/net/gw0/address", "");
  EXPECT_SAYS(Device("net_tap0,iface=gw0"), "ip link del gw0");
  Write("/proc/self/status", "CapEff:\t0000000000000000\n");
  EXPECT_SAYS(Device("net_tap0,iface=gw1"), "CAP_NET_ADMIN");
}

TEST_F(CheckMachineTest, KernelInterface) {
  EXPECT_SAYS(Device("net_af_packet0"), "iface=NAME");
  EXPECT_SAYS(Device("net_af_xdp0,iface=eth7"), "no network interface «eth7»");
  Write("/sys/class/net/eth7/address", "");
  EXPECT_EQ(Device("net_af_xdp0,iface=eth7"), "");
  Write("/proc/self/status", "CapEff:\t0000000000001000\n");
  EXPECT_SAYS(Device("net_af_packet0,iface=eth7"), "CAP_NET_RAW");
}

TEST_F(CheckMachineTest, Pcap) {
  EXPECT_SAYS(Device("net_pcap0,rx_pcap=/in.pcap,tx_pcap=/out.pcap"), "cannot read the capture");
  Write("/in.pcap", "");
  EXPECT_EQ(Device("net_pcap0,rx_pcap=/in.pcap,tx_pcap=/out.pcap"), "");
  EXPECT_SAYS(Device("net_pcap0,rx_pcap=/in.pcap,tx_pcap=/none/out.pcap"), "cannot write into");
}

TEST_F(CheckMachineTest, Pci) {
  EXPECT_SAYS(Device("0000:3b:00.0"), "no PCI device 0000:3b:00.0");
  const fs::path device = root_ + "/sys/bus/pci/devices/0000:3b:00.0";
  fs::create_directories(device);
  EXPECT_SAYS(Device("3b:00.0"), "bound to no driver");
  fs::create_symlink("../../../bus/pci/drivers/ixgbe", device / "driver");
  EXPECT_SAYS(Device("3b:00.0"), "the kernel's ixgbe: `modprobe vfio-pci; dpdk-devbind.py --bind");
  fs::remove(device / "driver");
  fs::create_symlink("../../../bus/pci/drivers/vfio-pci", device / "driver");
  EXPECT_SAYS(Device("3b:00.0"), "/dev/vfio/vfio");
  Write("/dev/vfio/vfio", "");
  EXPECT_EQ(Device("3b:00.0"), "");
}

TEST_F(CheckMachineTest, HugePages) {
  EXPECT_SAYS(Memory(100), "no huge pages; do without them: `dataplane: { hugepages: false }`");
  HugePages("2048kB", 10, 4);
  // 148 MiB are needed with what DPDK itself takes, 8 are there: 70 pages more than the 10.
  EXPECT_SAYS(Memory(100),
              "148 MiB of huge pages, flow tables want 0 MiB, 8 MiB are free: `echo 80 > "
              "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`");
  // What is said to be enough has room for flow tables, too, which can do without.
  EXPECT_SAYS(Memory(100, 64), "flow tables want 64 MiB, 8 MiB are free: `echo 112 > ");
  HugePages("1048576kB", 1, 1);
  EXPECT_EQ(Memory(100, 2000), "");
}

TEST_F(CheckMachineTest, NeedsNothingWithoutDevicesAndHugePages) {
  EXPECT_TRUE(CheckMachine({.hugepages = false}, root_).ok());
  EXPECT_EQ(Device("net_null0"), "");
}

}  // namespace
}  // namespace guideway
