// bcryptprimitives.dll for wine before 9, with what it lacks.
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID data, ULONG size);

// ProcessPrng gives Go's runtime its random bytes; without it no Go program starts. SystemFunction036 is RtlGenRandom (ntsecapi.h).
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	while (size > 0) {
		ULONG n = size > 0x10000000 ? 0x10000000 : (ULONG)size;
		if (!SystemFunction036(data, n))
			return FALSE;
		data += n;
		size -= n;
	}
	return TRUE;
}

// IsProcessCritical answers what is true under wine: no process is. The agent ends nothing where it cannot ask, so its tests are built
// to ask here (run).
__declspec(dllexport) BOOL WINAPI IsProcessCritical(HANDLE process, PBOOL critical)
{
	(void)process;
	*critical = FALSE;
	return TRUE;
}
