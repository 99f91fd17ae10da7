package encryption_test

import (
	"io"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// TestMetrics: what is encrypted is counted under upstream's names.
func TestMetrics(t *testing.T) {
	t.Parallel()
	kms := newPlugin(t)
	kms.start(t)
	p := writeConfig(t, configuration(rule{"configmaps", []string{kmsProvider(kms), identityProvider}})).open(t)
	s := serve(t, memory.New(), nil, p)
	create(t, s.Client(t, servertest.Default), "a")
	cfg := s.Config(servertest.Default, servertest.AdminToken)
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(cfg.Host + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:rowlock:v1:"}`,
		`apiserver_storage_transformation_operations_total{resource="configmaps",status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:kms:v2:test:"}`,
		`apiserver_storage_transformation_duration_seconds_bucket{`,
		`apiserver_envelope_encryption_key_id_hash_total{`,
		`apiserver_encryption_config_controller_last_config_info{`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s", want)
		}
	}
}
