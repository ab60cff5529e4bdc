# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Localised texts. Clients must not match them, so a host in another language says something else (wire 2.5, wire 4)."""
from __future__ import annotations

from datetime import datetime

_TEXTS: dict[str, dict[str, str]] = {
    "host_caption": {"en-US": "Hosting Computer System", "ja-JP": "ホスティング コンピューター システム",
                     "de-DE": "Hostcomputersystem", "fr-FR": "Système de l'ordinateur hôte"},
    "host_description": {"en-US": "Microsoft Hosting Computer System", "ja-JP": "Microsoft ホスティング コンピューター システム",
                         "de-DE": "Microsoft-Hostcomputersystem", "fr-FR": "Système de l'ordinateur hôte Microsoft"},
    "machine_caption": {"en-US": "Virtual Machine", "ja-JP": "仮想マシン", "de-DE": "Virtueller Computer", "fr-FR": "Ordinateur virtuel"},
    "ok": {"en-US": "Operating normally", "ja-JP": "正常稼働中", "de-DE": "Normaler Betrieb", "fr-FR": "Fonctionnement normal"},
    "degraded": {"en-US": "Cannot connect to virtual machine configuration storage", "ja-JP": "構成の記憶域に接続できません",
                 "de-DE": "Keine Verbindung mit dem Konfigurationsspeicher", "fr-FR": "Connexion impossible au stockage de configuration"},
    "storage": {"en-US": "The volume of a virtual hard disk is low on space", "ja-JP": "ボリュームの空き領域が不足しています",
                "de-DE": "Auf dem Volume einer Festplatte ist wenig Platz", "fr-FR": "Espace insuffisant sur le volume"},
    "busy": {"en-US": "An operation is in progress", "ja-JP": "操作が進行中です", "de-DE": "Ein Vorgang wird ausgeführt",
             "fr-FR": "Une opération est en cours"},
    "listener": {"en-US": "A network listener of the Replica server does not run",
                 "ja-JP": "レプリカ サーバーのネットワーク リスナーは実行されていません",
                 "de-DE": "Ein Netzwerklistener des Replikatservers wird nicht ausgeführt",
                 "fr-FR": "Un écouteur réseau du serveur de réplication ne fonctionne pas"},
    "job_running": {"en-US": "Job is running", "ja-JP": "ジョブは実行中です", "de-DE": "Der Auftrag wird ausgeführt",
                    "fr-FR": "La tâche est en cours d'exécution"},
    "job_done": {"en-US": "Job completed successfully", "ja-JP": "ジョブは正常に完了しました",
                 "de-DE": "Der Auftrag wurde erfolgreich abgeschlossen", "fr-FR": "La tâche s'est terminée correctement"},
    "job_failed": {"en-US": "Job failed", "ja-JP": "ジョブは失敗しました", "de-DE": "Fehler beim Auftrag", "fr-FR": "Échec de la tâche"},
}


def text(name: str, locale: str) -> str:
    """One text in the language of the host; English where there is no translation."""
    known = _TEXTS[name]
    return known.get(locale, known["en-US"])


_MOMENTS = {"ja-JP": "%Y/%m/%d - %H:%M:%S", "de-DE": "%d.%m.%Y - %H:%M:%S", "fr-FR": "%d/%m/%Y - %H:%M:%S"}


def default_name(machine: str, kind: str, now: datetime, locale: str) -> str:
    """The name that a checkpoint gets by itself: the machine and the time as the host writes it (operations 2.3)."""
    moment = now.strftime(_MOMENTS.get(locale, "%m/%d/%Y - %I:%M:%S %p"))
    return f"{machine} - {'Backup - ' if kind == 'recovery' else ''}({moment})"[:100]
