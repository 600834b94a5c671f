package vault

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestQuarantineRestoreAndDeleteOnTheWindowsAPI(t *testing.T) {
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "Evil Doc.exe"), "evil")
	r, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path, MD5: md5Of("evil")})
	if err != nil || r.State != bridge.StateDone {
		t.Fatalf("quarantine: %+v, %v", r, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the file is still there: %v", err)
	}
	it := only(t, v)
	if got := content(t, v, it.ID); got != "evil" {
		t.Errorf("the copy holds %q", got)
	}
	if err := v.Verify(t.Context(), it.ID); err != nil {
		t.Error(err)
	}
	if _, err := v.Restore(t.Context(), it.ID, ""); err != nil {
		t.Fatal(err)
	}
	if !there(t, path, "evil") {
		t.Error("the file did not come back")
	}
	if r, err := v.DeleteFile(t.Context(), "o2", bridge.DeleteFile{Path: path}); err != nil || r.State != bridge.StateDone {
		t.Errorf("delete: %+v, %v", r, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestGetFileKeepsTheFileOnTheWindowsAPI(t *testing.T) {
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "a.bin"), "a")
	if r, err := v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path}); err != nil || r.State != bridge.StateDone {
		t.Fatalf("%+v, %v", r, err)
	}
	if !there(t, path, "a") || content(t, v, only(t, v).ID) != "a" {
		t.Error("the file or its copy is not what it was")
	}
}

func TestAnotherDigestIsNotQuarantinedOnTheWindowsAPI(t *testing.T) {
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "a.bin"), "a")
	if _, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path, MD5: md5Of("b")}); err == nil {
		t.Error("a file with another digest was taken")
	}
	if !there(t, path, "a") {
		t.Error("the file is gone")
	}
	empty(t, v)
}

func TestTheKeyFileIsSealedForThisMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	first, err := FileKey(path)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := FileKey(path)(t.Context())
	if err != nil || string(again) != string(first) || len(first) != keySize {
		t.Errorf("the key is another one the second time: %v", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), string(first)) {
		t.Log("the key stands in its file as it is: only the access list keeps it")
	}
}

func TestAKeySomebodyElsePutThereIsNotUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key := DPAPIKey(path)
	if _, err := key(t.Context()); err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := key(t.Context()); !errors.Is(err, files.ErrOthers) {
		t.Errorf("a key everybody may write: %v", err)
	}
}
