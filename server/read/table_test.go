package read_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/read"
)

const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// tables are requests for tables.
var tables = []struct {
	path   string
	accept string // asTable when empty
	other  bool   // needs more than bytes
}{
	{path: "/api/v1/configmaps"},
	{path: "/api/v1/configmaps", accept: asTable + ",application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"},
	{path: "/api/v1/configmaps", accept: "application/json;as=Table;v=v1beta1;g=meta.k8s.io", other: true},
	{path: "/api/v1/configmaps", accept: "application/json;as=Table;v=v2;g=meta.k8s.io", other: true},
	{path: "/api/v1/configmaps", accept: "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", other: true},
	{path: "/api/v1/configmaps", accept: "application/yaml;as=Table;v=v1;g=meta.k8s.io", other: true},
	{path: "/api/v1/configmaps?resourceVersion=1000000"},
	{path: "/api/v1/configmaps?limit=5"},
	{path: "/api/v1/configmaps?labelSelector=app%3Dweb"},
	{path: "/api/v1/configmaps?includeObject=Object", other: true},
	{path: "/api/v1/configmaps?includeObject=None", other: true},
	{path: "/api/v1/configmaps?includeObject=What", other: true},
	{path: "/api/v1/configmaps?pretty=true", other: true},
	{path: "/api/v1/namespaces/none/configmaps"},
	{path: "/api/v1/namespaces/default/configmaps/cm-01", other: true},
	{path: "/api/v1/pods"},
	{path: "/api/v1/pods?limit=7"},
	{path: "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1"},
	{path: "/api/v1/namespaces"},
	{path: "/api/v1/events", other: true},
}

// TestTableSameAsUpstream compares tables with upstream's byte for byte, when their rows are made and when they are kept.
func TestTableSameAsUpstream(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	c.fillTables(t)
	bytes, oracle := c.servers(t, h)
	for _, tt := range tables {
		accept := tt.accept
		if accept == "" {
			accept = asTable
		}
		t.Run(fmt.Sprint(tt.path, " ", accept), func(t *testing.T) {
			t.Parallel()
			for range 3 {
				compare(t, bytes, oracle, tt.path, map[string]string{"Accept": accept}, !tt.other)
			}
		})
	}
}

// TestTableFollows: rows follow their objects.
func TestTableFollows(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	bytes, oracle := c.servers(t, h)
	for i := range 4 {
		cm := configMap("default", "cm", nil, strings.Repeat("x", i))
		for n := range i {
			cm.Data[fmt.Sprint(n)] = ""
		}
		c.put(t, "configmaps", stored(cm))
		compare(t, bytes, oracle, "/api/v1/configmaps", map[string]string{"Accept": asTable}, true)
	}
}

// fillTables puts objects whose rows have something of their own.
func (c *cluster) fillTables(t testing.TB) {
	t.Helper()
	restarted := pod("default", "restarted", "node-1", nil)
	ago := metav1.NewTime(created.Add(time.Hour))
	restarted.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c", RestartCount: 3,
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: ago}},
	}}
	done := pod("default", "done", "node-2", map[string]string{"a": "<b>"})
	done.Status.Phase = corev1.PodSucceeded
	leaving := pod("default", "leaving", "node-2", nil)
	leaving.DeletionTimestamp, leaving.DeletionGracePeriodSeconds = &ago, new(int64)
	for _, p := range []*corev1.Pod{restarted, done, leaving} {
		c.put(t, "pods", stored(p))
	}
}
