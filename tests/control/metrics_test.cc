#include "control/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "control/controller.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/fake_prober.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::Contains;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kAb[] = "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2, weight: 50 }";
constexpr char kTcpCheck[] = "health_check: { tcp: {}, rise: 2, fall: 3 }";

std::string TypeName(MetricType type) {
  switch (type) {
    case MetricType::kCounter: return "counter";
    case MetricType::kGauge: return "gauge";
    case MetricType::kHistogram: return "histogram";
  }
  return "";
}

std::string FileText(const std::string& path) {
  std::ifstream in(absl::StrCat(SOURCE_ROOT, "/", path));
  EXPECT_TRUE(in.good()) << path;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(MetricList, NamesAreAsPrometheusWantsThem) {
  std::set<std::string> names;
  for (const MetricInfo& info : kMetricInfo) {
    const std::string name(info.name);
    SCOPED_TRACE(name);
    EXPECT_TRUE(std::regex_match(name, std::regex("guideway(_[a-z]+)+")));
    EXPECT_EQ(absl::EndsWith(name, "_total"), info.type == MetricType::kCounter);
    EXPECT_TRUE(names.insert(name).second) << "twice";
    EXPECT_FALSE(info.help.empty());
    EXPECT_THAT(std::string(info.help), Not(HasSubstr("|")))
        << "it is a row of a table in the docs";
  }
}

TEST(MetricList, TheDocsHaveIt) {
  std::vector<std::string> expected, found;
  for (const MetricInfo& info : kMetricInfo) {
    expected.push_back(absl::StrCat("| `", info.name, "` | ", TypeName(info.type), " | ",
                                    info.labels, " | ", info.help, " |"));
  }
  for (absl::string_view line : absl::StrSplit(FileText("docs/operations.md"), '\n')) {
    if (absl::StartsWith(line, "| `guideway_")) found.emplace_back(line);
  }
  EXPECT_THAT(found, ElementsAreArray(expected));
}

// What the dashboard and the rules ask for exists, labels that they group by included.
TEST(MetricList, HasAllThatIsSharedAsksFor) {
  std::set<std::string> series, labels = {"instance", "job", "le"};
  for (const MetricInfo& info : kMetricInfo) {
    const std::string name(info.name);
    if (info.type == MetricType::kHistogram) {
      for (const char* part : {"_bucket", "_sum", "_count"}) series.insert(name + part);
    } else {
      series.insert(name);
    }
    for (absl::string_view label : absl::StrSplit(info.labels, ", ", absl::SkipEmpty())) {
      labels.emplace(label);
    }
  }
  for (const char* path : {"share/grafana/guideway.json", "share/prometheus/guideway.rules.yml"}) {
    SCOPED_TRACE(path);
    const std::string text = FileText(path);
    const auto each = [&](const char* pattern, const auto& check) {
      const std::regex regex(pattern);
      size_t count = 0;
      for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end;
           ++it, ++count) {
        check((*it)[1].str());
      }
      EXPECT_GT(count, 0u) << pattern;
    };
    each(R"(\b(guideway_\w+))",
         [&](const std::string& name) { EXPECT_THAT(series, Contains(name)); });
    each(R"(\bby ?\(([^)]*)\))", [&](const std::string& list) {
      for (absl::string_view label : absl::StrSplit(list, ", ", absl::SkipEmpty())) {
        EXPECT_THAT(labels, Contains(std::string(label)));
      }
    });
  }
}

class MetricsTest : public testing::Test {
 protected:
  void Start(const std::string& services) {
    controller_.emplace(&loop_, &prober_, &dataplane_,
                        Controller::Options{.config_file = "none.yaml", .version = "test"},
                        LoadText(ConfigText(services)));
    ASSERT_EQ(controller_->Start(), absl::OkStatus());
    loop_.Advance(absl::Milliseconds(10));
  }
  void Apply(const std::string& services) {
    controller_->Apply({"new.yaml", ConfigText(services), "somebody"}, [](const auto&) {});
    loop_.RunAll();
  }
  std::string Text() { return MetricsText(controller_->GetMetrics()); }
  // The value of a series; empty if there is none.
  std::string Value(const std::string& series) {
    for (absl::string_view line : absl::StrSplit(Text(), '\n')) {
      if (absl::StartsWith(line, series + " ")) return std::string(line.substr(series.size() + 1));
    }
    return "";
  }
  BackendId IdOf(size_t service, size_t member) {
    return dataplane_.snapshot().services()[service]->backends[member].id;
  }

  FakeEventLoop loop_;
  FakeProber prober_{&loop_};
  FakeDataplane dataplane_;
  std::optional<Controller> controller_;
};

// Each metric of the list once, in its order, with the type and the labels that the list says.
TEST_F(MetricsTest, TheTextIsTheList) {
  Start(ServiceText("web", 1, kAb, kTcpCheck));
  std::map<std::string, const MetricInfo*> by_series;
  std::vector<std::string> expected, found;
  for (const MetricInfo& info : kMetricInfo) {
    const std::string name(info.name);
    expected.push_back(absl::StrCat("# TYPE ", name, " ", TypeName(info.type)));
    for (const char* part : {"", "_bucket", "_sum", "_count"}) by_series[name + part] = &info;
  }
  std::set<absl::string_view> seen;
  const std::string text = Text();
  const std::regex label(R"re((\w+)="[^"]*")re");
  for (const absl::string_view part : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::string line(part);
    if (absl::StartsWith(line, "# TYPE ")) found.push_back(line);
    if (absl::StartsWith(line, "#")) continue;
    const std::string name = line.substr(0, line.find_first_of("{ "));
    ASSERT_TRUE(by_series.contains(name)) << line;
    std::vector<std::string> labels;
    for (std::sregex_iterator it(line.begin(), line.end(), label), end; it != end; ++it) {
      if ((*it)[1] != "le") labels.push_back((*it)[1]);
    }
    EXPECT_EQ(absl::StrJoin(labels, ", "), by_series[name]->labels) << line;
    seen.insert(by_series[name]->name);
  }
  EXPECT_THAT(found, ElementsAreArray(expected));
  for (const MetricInfo& info : kMetricInfo) {
    EXPECT_TRUE(seen.contains(info.name)) << info.name << " has no series";
  }
}

TEST_F(MetricsTest, CountsOfWorkersAndInterfaces) {
  PacketCounts packets;
  packets.received = 7;
  packets.verdicts[static_cast<size_t>(Verdict::kForward)] = 4;
  packets.verdicts[static_cast<size_t>(Verdict::kDrop)] = 3;
  packets.reasons[static_cast<size_t>(Reason::kNoBackend)] = 3;
  dataplane_.worker_status = {{.core = 5,
                               .packets = packets,
                               .flows = 10,
                               .flow_capacity = 1024,
                               .flows_not_stored = 2,
                               .flows_evicted = 6,
                               .busy_ns = 1'500'000'000,
                               .idle_ns = 250'000'000},
                              {.core = 6}};
  dataplane_.interface_status[0].missed_packets = 9;
  dataplane_.interface_status[0].link_up = false;
  Start(ServiceText("web", 1, kAb));
  EXPECT_EQ(Value(R"(guideway_packets_total{worker="5",verdict="forward"})"), "4");
  EXPECT_EQ(Value(R"(guideway_packets_total{worker="6",verdict="forward"})"), "0");
  EXPECT_EQ(Value(R"(guideway_dropped_packets_total{worker="5",reason="no_backend"})"), "3");
  EXPECT_EQ(Value(R"(guideway_flow_table_entries{worker="5"})"), "10");
  EXPECT_EQ(Value(R"(guideway_flow_table_capacity{worker="5"})"), "1024");
  EXPECT_EQ(Value(R"(guideway_flow_table_not_stored_total{worker="5"})"), "2");
  EXPECT_EQ(Value(R"(guideway_flow_table_evictions_total{worker="5"})"), "6");
  EXPECT_EQ(Value(R"(guideway_worker_busy_seconds_total{worker="5"})"), "1.5");
  EXPECT_EQ(Value(R"(guideway_worker_idle_seconds_total{worker="5"})"), "0.25");
  EXPECT_EQ(Value(R"(guideway_interface_missed_packets_total{interface="uplink"})"), "9");
  EXPECT_EQ(Value(R"(guideway_interface_link_up{interface="uplink"})"), "0");
  EXPECT_EQ(Value(R"(guideway_build_info{version="test"})"), "1");
}

// The file's order is not the Snapshot's, which is by name.
TEST_F(MetricsTest, CountsOfServicesAndBackendsAreOfTheRightOnes) {
  Start(ServiceText("web", 1,
                    "{ name: z, address: 10.0.0.1, weight: 30 }, { name: y, address: "
                    "10.0.0.2, state: drain, weight: 0 }") +
        ServiceText("other", 2, kAb));
  const BackendId y = IdOf(0, 0), z = IdOf(0, 1);
  dataplane_.by_service[0] = {.packets = 11, .bytes = 1100, .forwarded = 10, .dropped = 1};
  dataplane_.by_backend[z] = {.packets = 7, .bytes = 700, .new_flows = 3, .active_flows = 2};
  dataplane_.by_backend[y] = {.packets = 1, .bytes = 100, .new_flows = 1, .active_flows = 1};
  EXPECT_EQ(Value(R"(guideway_service_packets_total{service="web"})"), "11");
  EXPECT_EQ(Value(R"(guideway_service_bytes_total{service="web"})"), "1100");
  EXPECT_EQ(Value(R"(guideway_service_forwarded_packets_total{service="web"})"), "10");
  EXPECT_EQ(Value(R"(guideway_service_dropped_packets_total{service="web"})"), "1");
  EXPECT_EQ(Value(R"(guideway_service_new_connections_total{service="web"})"), "4");
  EXPECT_EQ(Value(R"(guideway_service_active_connections{service="web"})"), "3");
  EXPECT_EQ(Value(R"(guideway_service_backends{service="web"})"), "2");
  EXPECT_EQ(Value(R"(guideway_service_backends_up{service="web"})"), "1");
  EXPECT_EQ(Value(R"(guideway_service_health_ignored{service="web"})"), "0");
  EXPECT_EQ(Value(R"(guideway_service_packets_total{service="other"})"), "0");
  EXPECT_EQ(Value(R"(guideway_backend_packets_total{service="web",backend="z"})"), "7");
  EXPECT_EQ(Value(R"(guideway_backend_bytes_total{service="web",backend="z"})"), "700");
  EXPECT_EQ(Value(R"(guideway_backend_new_connections_total{service="web",backend="z"})"), "3");
  EXPECT_EQ(Value(R"(guideway_backend_active_connections{service="web",backend="z"})"), "2");
  EXPECT_EQ(Value(R"(guideway_backend_up{service="web",backend="z"})"), "1");
  EXPECT_EQ(Value(R"(guideway_backend_weight{service="web",backend="z"})"), "30");
  EXPECT_EQ(Value(R"(guideway_backend_share_ratio{service="web",backend="z"})"), "1");
  EXPECT_EQ(Value(R"(guideway_backend_state{service="web",backend="z",state="up"})"), "1");
  EXPECT_EQ(Value(R"(guideway_backend_packets_total{service="web",backend="y"})"), "1");
  EXPECT_EQ(Value(R"(guideway_backend_up{service="web",backend="y"})"), "0");
  EXPECT_EQ(Value(R"(guideway_backend_state{service="web",backend="y",state="drain"})"), "1");
  EXPECT_EQ(Value(R"(guideway_backend_state{service="web",backend="y",state="up"})"), "");
}

// Prometheus takes a count that shrinks for a restart.
TEST_F(MetricsTest, AServicesConnectionsStayCountedWhenBackendsLeaveAndReturn) {
  constexpr char kSum[] = R"(guideway_service_new_connections_total{service="web"})";
  Start(ServiceText("web", 1, kAb));
  dataplane_.by_backend[IdOf(0, 0)].new_flows = 100;
  dataplane_.by_backend[IdOf(0, 1)].new_flows = 20;
  EXPECT_EQ(Value(kSum), "120");
  Apply(ServiceText("web", 1, "{ name: b, address: 10.0.0.2 }"));
  EXPECT_EQ(Value(kSum), "120");
  Apply(ServiceText("web", 1, "{ name: b, address: 10.0.0.2, weight: 7 }"));
  EXPECT_EQ(Value(kSum), "120");
  Apply(ServiceText("web", 1, kAb));
  EXPECT_EQ(Value(kSum), "120") << "a still has its id, and with it its count";
  dataplane_.by_backend[IdOf(0, 0)].new_flows = 101;
  EXPECT_EQ(Value(kSum), "121");
  Apply(ServiceText("other", 1, "{ name: b, address: 10.0.0.2 }"));
  EXPECT_EQ(Value(R"(guideway_service_new_connections_total{service="other"})"), "0");
}

TEST_F(MetricsTest, ProbesByKindAndOutcome) {
  prober_.Fail("10.0.0.2", "connection refused");
  Start(ServiceText("web", 1, kAb, kTcpCheck) +
        ServiceText("other", 2, "{ name: c, address: 10.0.0.3 }", "health_check: { http: {} }"));
  EXPECT_EQ(Value(R"(guideway_probes_total{kind="tcp",outcome="ok"})"), "1");
  EXPECT_EQ(Value(R"(guideway_probes_total{kind="tcp",outcome="failed"})"), "1");
  EXPECT_EQ(Value(R"(guideway_probes_total{kind="http",outcome="ok"})"), "1");
  prober_.answers["10.0.0.3"] = {ProbeAnswer::Kind::kNotAsked, "could not ask"};
  loop_.Advance(absl::Milliseconds(1200));
  EXPECT_EQ(Value(R"(guideway_probes_total{kind="http",outcome="not_asked"})"), "1");
  EXPECT_EQ(Value(R"(guideway_probe_duration_seconds_count{kind="http"})"), "1")
      << "what was not asked took no time";

  // The third round's answer to a takes 200 ms; the fourth round begins 3 s late.
  prober_.silent = true;
  const size_t before = prober_.asked.size();
  loop_.Advance(absl::Milliseconds(1000));
  EXPECT_EQ(prober_.asked.size(), before + 3);
  loop_.Advance(absl::Milliseconds(200));
  const std::string count = Value(R"(guideway_probe_duration_seconds_count{kind="tcp"})");
  const std::string quick = Value(R"(guideway_probe_duration_seconds_bucket{kind="tcp",le="0.1"})");
  EXPECT_EQ(quick, count);
  for (size_t i = before; i < before + 3; ++i) prober_.asked[i].done({});
  EXPECT_EQ(Value(R"(guideway_probe_duration_seconds_bucket{kind="tcp",le="0.1"})"), quick);
  EXPECT_EQ(Value(R"(guideway_probe_lateness_seconds_bucket{le="0.001"})"),
            Value(R"(guideway_probe_lateness_seconds_count)"));
  loop_.Stall(absl::Seconds(3));
  loop_.Run();
  EXPECT_NE(Value(R"(guideway_probe_lateness_seconds_bucket{le="1"})"),
            Value(R"(guideway_probe_lateness_seconds_count)"));
}

TEST_F(MetricsTest, ChangesAndTheirFailures) {
  Start(ServiceText("web", 1, kAb, kTcpCheck));
  EXPECT_EQ(Value("guideway_table_builds_total"), "1");
  EXPECT_EQ(Value("guideway_compile_duration_seconds_count"), "1");
  EXPECT_EQ(Value("guideway_config_last_change_successful"), "1");
  prober_.Fail("10.0.0.2", "connection refused");
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(Value("guideway_snapshot_version"), "2");
  EXPECT_EQ(Value("guideway_compile_duration_seconds_count"), "2");
  EXPECT_EQ(Value("guideway_table_builds_total"), "1") << "a failure builds no table";
  Apply("nonsense");
  EXPECT_EQ(Value("guideway_config_last_change_successful"), "0");
  EXPECT_EQ(Value("guideway_config_revision"), "1");
  Apply(ServiceText("web", 1, kAb, kTcpCheck) + ServiceText("other", 2, ""));
  EXPECT_EQ(Value("guideway_config_last_change_successful"), "1");
  EXPECT_EQ(Value("guideway_config_revision"), "2");
  EXPECT_EQ(Value("guideway_table_builds_total"), "2");
}

TEST_F(MetricsTest, DigestsAreWrittenToTheDigit) {
  Start(ServiceText("web", 1, kAb, kTcpCheck));
  const auto exact = [&](const char* table) {
    return std::stod(Value(
        absl::StrCat("guideway_service_table_digest{service=\"web\",table=\"", table, "\"}")));
  };
  const Service* web = dataplane_.snapshot().services()[0].get();
  EXPECT_EQ(exact("configured"), static_cast<double>(web->configured_digest));
  EXPECT_EQ(exact("effective"), exact("configured"));
  prober_.Fail("10.0.0.2", "connection refused");
  loop_.Advance(absl::Seconds(4));
  web = dataplane_.snapshot().services()[0].get();
  EXPECT_EQ(exact("effective"), static_cast<double>(web->effective_digest));
  EXPECT_NE(exact("effective"), exact("configured"));
}

TEST_F(MetricsTest, WithoutServices) {
  Start("  []\n");
  EXPECT_THAT(Text(), StartsWith("# HELP guideway_build_info "));
  EXPECT_EQ(Value(R"(guideway_packets_total{worker="1",verdict="drop"})"), "0");
}

}  // namespace
}  // namespace guideway
