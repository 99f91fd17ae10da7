package join

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/client-go/util/certificate"
)

// store keeps one certificate with its key in one file, so that never one is there without the other. It implements
// certificate.Store. Upstream's keeps files of every renewal and a link to the last, and does not wait for the disk.
type store struct{ path string }

// Current implements certificate.Store.
func (s *store) Current() (*tls.Certificate, error) {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		none := certificate.NoCertKeyError("there is no certificate yet at " + s.path)
		return nil, &none
	}
	if err != nil {
		return nil, err
	}
	cert, err := pair(data, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file to have another certificate made", s.path, err)
	}
	return cert, nil
}

// Update implements certificate.Store.
func (s *store) Update(cert, key []byte) (*tls.Certificate, error) {
	made, err := pair(cert, key)
	if err != nil {
		return nil, err
	}
	return made, write(s.path, slices.Concat(cert, key), 0o600)
}

func pair(cert, key []byte) (*tls.Certificate, error) {
	made, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if made.Leaf == nil {
		if made.Leaf, err = x509.ParseCertificate(made.Certificate[0]); err != nil {
			return nil, err
		}
	}
	return &made, nil
}

// told logs renewals.
type told struct {
	certificate.Store
	log  *slog.Logger
	what string
}

func (t told) Update(cert, key []byte) (*tls.Certificate, error) {
	made, err := t.Store.Update(cert, key)
	if err != nil {
		return nil, err
	}
	t.log.Info("Certificate received", "certificate", t.what, "expires", made.Leaf.NotAfter, "names", made.Leaf.DNSNames, "addresses", made.Leaf.IPAddresses)
	return made, nil
}

// write replaces a file as a whole: whatever happens, what was there is there, or what is written is, and it is on the disk when write
// returns. What is there already is not written: the disk may be full, and nothing be missing.
func write(path string, data []byte, mode fs.FileMode) (err error) {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return os.Chmod(path, mode)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
