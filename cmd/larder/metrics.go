package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/larder-cache/larder/internal/logs"
	"github.com/larder-cache/larder/tenants"
)

// A collector shows the meters and the caches' live numbers to Prometheus. It counts nothing itself: a request
// pays for metering once. With a tenant it shows that tenant's alone.
type collector struct {
	node   *node
	tenant string
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("larder_"+name, help, append([]string{"tenant", "cache"}, labels...), nil)
}

var (
	operationsDesc = desc("operations_total", "Operations carried out, by command class.", "class")
	unitsDesc      = desc("units_total", "Request units charged, by command class.", "class")
	bytesDesc      = desc("bytes_total", "Bytes of arguments (in) and replies (out).", "direction")
	refusedDesc    = desc("refused_total", "Operations denied by a policy, requests throttled by a limit, and requests that failed on our side.", "reason")
	itemsDesc      = desc("cache_items", "Items held.")
	memoryDesc     = desc("cache_memory_bytes", "Bytes accounted to the cache.")
	limitDesc      = desc("cache_memory_limit_bytes", "The cache's memory limit.")
	readsDesc      = desc("cache_reads_total", "Reads that found their key (hit) or did not (miss).", "result")
	removedDesc    = desc("cache_removed_total", "Items removed because they expired or to make room.", "reason")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{operationsDesc, unitsDesc, bytesDesc, refusedDesc, itemsDesc, memoryDesc, limitDesc, readsDesc, removedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	c.node.meters.Each(func(tenant, cache string, u tenants.Usage) {
		if c.tenant != "" && tenant != c.tenant {
			return
		}
		for class, v := range u.Classes {
			count(operationsDesc, v.Operations, tenant, cache, class)
			count(unitsDesc, v.Units, tenant, cache, class)
		}
		count(bytesDesc, u.BytesIn, tenant, cache, "in")
		count(bytesDesc, u.BytesOut, tenant, cache, "out")
		count(refusedDesc, u.Denied, tenant, cache, "denied")
		count(refusedDesc, u.Throttled, tenant, cache, "throttled")
		count(refusedDesc, u.Failed, tenant, cache, "failed")
	})
	c.node.accounts.EachCache(c.tenant, func(cache *tenants.Cache) {
		s, ok := c.node.stats(cache)
		if !ok {
			return
		}
		gauge(itemsDesc, s.Items, cache.Tenant, cache.Name)
		gauge(memoryDesc, s.Bytes, cache.Tenant, cache.Name)
		gauge(limitDesc, cache.MemoryLimit, cache.Tenant, cache.Name)
		count(readsDesc, s.Hits, cache.Tenant, cache.Name, "hit")
		count(readsDesc, s.Misses, cache.Tenant, cache.Name, "miss")
		count(removedDesc, s.Expired, cache.Tenant, cache.Name, "expired")
		count(removedDesc, s.Evicted, cache.Tenant, cache.Name, "evicted")
	})
}

var lagDesc = prometheus.NewDesc("larder_snapshot_lag_seconds", "For how long the scheduled snapshot that is overdue the longest has been due.", nil, nil)

var storeDesc = prometheus.NewDesc("larder_store_bytes", "Memory of the partitions in this process beside Go's heap: records (live), their blocks with holes (blocks), long values (apart), and everything (all).", []string{"part"}, nil)

// A storeCollector shows what the partitions take of the machine's memory, and how late snapshots are.
type storeCollector struct{ node *node }

// Describe implements prometheus.Collector.
func (c storeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- storeDesc
	ch <- lagDesc
}

// Collect implements prometheus.Collector.
func (c storeCollector) Collect(ch chan<- prometheus.Metric) {
	u := c.node.host.Memory()
	for part, v := range map[string]int64{"live": u.Live, "blocks": u.Blocks, "apart": u.Apart, "all": u.All} {
		ch <- prometheus.MustNewConstMetric(storeDesc, prometheus.GaugeValue, float64(v), part)
	}
	ch <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, c.node.snapshots.Lag().Seconds())
}

var (
	walBytesDesc  = prometheus.NewDesc("larder_wal_bytes", "How long the write-ahead log of durable caches is.", nil, nil)
	walBehindDesc = prometheus.NewDesc("larder_wal_behind_seconds", "How old the oldest write is that is to be on disk and is not yet; 0 when all are.", nil, nil)
)

// A walCollector shows how the write-ahead log is.
type walCollector struct{ node *node }

// Describe implements prometheus.Collector.
func (c walCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- walBytesDesc
	ch <- walBehindDesc
}

// Collect implements prometheus.Collector.
func (c walCollector) Collect(ch chan<- prometheus.Metric) {
	var log interface {
		Log() (bytes int64, behind time.Duration)
	}
	switch {
	case c.node.keeper != nil:
		log = c.node.keeper
	case c.node.vault != nil:
		log = c.node.vault
	default:
		return
	}
	bytes, behind := log.Log()
	ch <- prometheus.MustNewConstMetric(walBytesDesc, prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(walBehindDesc, prometheus.GaugeValue, behind.Seconds())
}

var droppedLines = prometheus.NewCounterFunc(prometheus.CounterOpts{
	Name: "larder_log_lines_dropped_total", Help: "Lines of the log that were dropped because whoever reads it did not.",
}, func() float64 { return float64(logs.Dropped()) })

// metrics serves one tenant's numbers, or everybody's with the process's own when tenant is empty.
func (n *node) metrics(tenant string) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{n, tenant})
	if tenant == "" {
		registry.MustRegister(storeCollector{n}, walCollector{n}, droppedLines, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
