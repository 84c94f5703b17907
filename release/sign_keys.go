package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"aead.dev/minisign"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

const maxKeyFile = 4 << 10

// CheckNoKeys fails where a file is that [GenerateKey] would write.
func CheckNoKeys(secret, public string) error {
	for _, path := range []string{secret, public} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there, and keys are never written over: choose another name, or move it away", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// GenerateKey makes a minisign key pair and returns its id. The secret key's file,
// mode 0600, is encrypted with the password; without one (nil) it is not. The public
// key's, mode 0644, is for the devices. What is there is kept, and after an error
// neither file is left.
func GenerateKey(secret, public string, password *string) (id string, err error) {
	if err := CheckNoKeys(secret, public); err != nil {
		return "", err
	}
	pub, key, err := minisign.GenerateKey(nil)
	if err != nil {
		return "", err
	}
	var secretText []byte
	if password != nil {
		secretText, err = minisign.EncryptKey(*password, key)
	} else {
		secretText, err = key.MarshalText()
	}
	if err != nil {
		return "", err
	}
	publicText, err := pub.MarshalText()
	if err != nil {
		return "", err
	}
	if err := writeNew(secret, append(secretText, '\n'), 0o600); err != nil {
		return "", err
	}
	if err := writeNew(public, append(publicText, '\n'), 0o644); err != nil {
		os.Remove(secret)
		return "", err
	}
	return keyID(pub.ID()), nil
}

// writeNew writes a file that isn't there yet, durably.
func writeNew(path string, data []byte, perm os.FileMode) (err error) {
	f, err := durable.Disk{}.Create(path, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// ReadSecretKey reads a minisign secret key. The password is asked for where the
// key is encrypted.
func ReadSecretKey(path string, password func() (string, error)) (key minisign.PrivateKey, err error) {
	text, err := strict.ReadFile(path, maxKeyFile)
	if err != nil {
		return key, fmt.Errorf("read the secret key: %w", err)
	}
	if !minisign.IsEncrypted(text) {
		if err := key.UnmarshalText(text); err != nil {
			return key, fmt.Errorf("%s is no minisign secret key: %w", path, err)
		}
		return key, nil
	}
	given, err := password()
	if err != nil {
		return key, err
	}
	if key, err = minisign.DecryptKey(given, text); err != nil {
		return key, fmt.Errorf("%s: that is not its password, or the file is damaged", path)
	}
	return key, nil
}
