package encryption_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"
)

// plugin is a KMS v2 plugin: keys that never leave it, behind gRPC on a socket.
type plugin struct {
	socket string

	mu   sync.Mutex
	keys []cipher.AEAD // the last one encrypts; their ids are their indices
	grpc *grpc.Server
	done chan error
}

func newPlugin(t *testing.T) *plugin {
	t.Helper()
	p := &plugin{socket: filepath.Join(t.TempDir(), "s")}
	p.rotate(t)
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *plugin) rotate(t *testing.T) {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, aead)
}

func (p *plugin) start(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	p.grpc, p.done = grpc.NewServer(), make(chan error, 1)
	kmsapi.RegisterKeyManagementServiceServer(p.grpc, service.NewGRPCService(p.socket, 5*time.Second, p))
	go func() { p.done <- p.grpc.Serve(listener) }()
}

func (p *plugin) stop(t *testing.T) {
	t.Helper()
	if p.grpc == nil {
		return
	}
	p.grpc.Stop()
	if err := <-p.done; err != nil {
		t.Errorf("KMS plugin: %v", err)
	}
	p.grpc = nil
}

func (p *plugin) Status(context.Context) (*service.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: strconv.Itoa(len(p.keys) - 1)}, nil
}

func (p *plugin) Encrypt(_ context.Context, _ string, data []byte) (*service.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := len(p.keys) - 1
	return &service.EncryptResponse{Ciphertext: p.keys[id].Seal(nil, nil, data, nil), KeyID: strconv.Itoa(id)}, nil
}

func (p *plugin) Decrypt(_ context.Context, _ string, req *service.DecryptRequest) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, err := strconv.Atoi(req.KeyID)
	if err != nil || id >= len(p.keys) {
		return nil, errors.New("no such key")
	}
	return p.keys[id].Open(nil, nil, req.Ciphertext, nil)
}
