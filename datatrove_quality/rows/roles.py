"""Names of roles: what data sets call the user, the assistant, the system and a tool, in any language.

To add a name, add it to `NAMES`. Names are compared without case and without blanks around them.
"""

import unicodedata
from functools import lru_cache


USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"

NAMES: dict[str, str] = {
    USER: """
        user human prompter
        usuário usuario utilizador utilisateur benutzer nutzer utente gebruiker użytkownik användare käyttäjä uživatel
        utilizator felhasználó kullanıcı pengguna пользователь користувач χρήστης مستخدم משתמש उपयोगकर्ता ব্যবহারকারী
        người_dùng ผู้ใช้ 用户 用戶 使用者 ユーザー 사용자
        """,
    ASSISTANT: """
        assistant gpt chatgpt gpt4 gpt-4 gpt-3.5 model bot chatbot ai llm bing bard claude gemini
        function_call tool_call function-call tool-call
        assistente asistente asistent assistant_ia assistent asystent avustaja asszisztens asisten помощник ассистент
        помічник βοηθός مساعد עוזר सहायक সহকারী trợ_lý ผู้ช่วย 助手 助理 アシスタント 어시스턴트 보조
        """,
    SYSTEM: """
        system system_prompt developer
        sistema système systeem järjestelmä systém rendszer sistem система σύστημα النظام מערכת सिस्टम
        hệ_thống ระบบ 系统 系統 システム 시스템
        """,
    TOOL: """
        tool function ipython environment observation function_response tool_response function_output tool_output
        function_result tool_result function-response tool-response
        ferramenta herramienta outil werkzeug strumento инструмент εργαλείο أداة 工具 ツール 도구
        """,
}
"""Names of each role, separated by blanks; an underscore means a blank too.

A function call is what the assistant says; a function's response is what a tool says.
"""


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold().replace(" ", "_")


ROLES: dict[str, str] = {_key(name): role for role, names in NAMES.items() for name in names.split()}


@lru_cache(maxsize=4_096)
def known_role(name: str) -> str | None:
    """Which of user, assistant, system and tool a name means; None: it is not a known name."""
    return ROLES.get(_key(name))


def is_answer(role: str) -> bool:
    """Whether a message of this role is the assistant's. A role of an unknown name may be."""
    return known_role(role) in (ASSISTANT, None)
